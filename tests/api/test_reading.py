"""GET routes: every answer has the documented shape and says what is so."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from srv6dmm_api import shapes

from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.sid import Behavior
from srv6dmm.model.wire import ModeReport, PrefixTraffic, SidTraffic, Telemetry
from tests.api.support import Agent, Site, refused, running


async def _moved(site: Site) -> None:
    """mn1 at home in ar1; mn2 of ar2 and then ar1 serves at ar3."""
    assert (await site.attach("ar1", node="mn1", wait="applied")).status_code == 200
    for router in ("ar2", "ar1", "ar3"):
        response = await site.attach(router, node="mn2", wait="applied")
        assert response.status_code == 200


async def _get(site: Site, path: str, shape: type[BaseModel]) -> Any:
    response = await site.client.get(path)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    shape.model_validate_json(response.content)
    return response.json()


async def test_mobile_nodes() -> None:
    async with running() as site:
        assert await _get(site, "/v1/mobile-nodes", shapes.NodesShape) == {"mobile_nodes": []}
        await _moved(site)
        listed = await _get(site, "/v1/mobile-nodes", shapes.NodesShape)
        assert [node["mobile_node"] for node in listed["mobile_nodes"]] == ["mn1", "mn2"]
        home, away = (node["sessions"][0] for node in listed["mobile_nodes"])
        assert home["bindings"][0]["state"] == "home"
        assert home["steering"] == []
        states = {binding["anchor"]: binding["state"] for binding in away["bindings"]}
        assert states == {"ar2": "steered", "ar1": "steered", "ar3": "home"}
        head_ends = {entry["head_end"] for entry in away["steering"]}
        assert head_ends == {"ar1", "ar2", "br1"}
        end_dt6 = str(site.controller.planner.sids["ar3"].end_dt6)
        for entry in away["steering"]:
            assert entry["segments"] == [end_dt6]
            assert entry["path"] == [entry["head_end"], "tr1", "ar3"]
        node = await _get(site, "/v1/mobile-nodes/mn2", shapes.NodeShape)
        for binding in node["sessions"][0]["bindings"]:
            assert binding.pop("traffic") == []  # is shown of one node only
        assert node == listed["mobile_nodes"][1] | {"sessions": [away]}
        refused(await site.client.get("/v1/mobile-nodes/mn9"), 404, "unknown-mobile-node")


async def test_a_path_leads_where_its_segments_do_in_every_stage() -> None:
    """Until head-ends are switched they steer to the old router, and are shown to."""
    async with running() as site:
        await site.attach("ar1", wait="applied")
        await site.attach("ar2", wait="applied")
        site.agents["ar3"].mute = True
        await site.attach("ar3")
        [session] = (await _get(site, "/v1/mobile-nodes/mn1", shapes.NodeShape))["sessions"]
        assert session["rollout"] == "prepare"
        assert session["pending"] == ["ar3"]
        sids = site.controller.planner.sids
        owners = {str(sids[name].end_dt6): name for name in sids}
        assert session["steering"]
        for entry in session["steering"]:
            assert entry["path"][-1] == owners[entry["segments"][-1]] == "ar2"


async def test_interfaces_of_a_node_are_sessions_of_their_own() -> None:
    async with running() as site:
        await site.attach("ar1", interface="wlan0", event_id="a")
        await site.attach("ar2", interface="lte0", event_id="b")
        node = await _get(site, "/v1/mobile-nodes/mn1", shapes.NodeShape)
        assert [(s["interface"], s["serving"]) for s in node["sessions"]] == [
            ("lte0", "ar2"),
            ("wlan0", "ar1"),
        ]


async def test_pages_of_mobile_nodes() -> None:
    async with running(agents=False) as site:
        names = sorted(f"mn{number}" for number in range(7))
        for name in names:
            await site.attach("ar1", node=name, event_id=name)
        found: list[str] = []
        query: dict[str, Any] = {"limit": 3}
        pages = 0
        while True:
            page = (await site.client.get("/v1/mobile-nodes", params=query)).json()
            shapes.NodesShape.model_validate(page)
            found += [node["mobile_node"] for node in page["mobile_nodes"]]
            pages += 1
            if "next" not in page:
                break
            query["after"] = page["next"]
        assert found == names
        assert pages == 3


async def test_routers() -> None:
    async with running(agents=False) as site:
        before = await _get(site, "/v1/routers", shapes.RoutersShape)
        assert [r["name"] for r in before["routers"]] == ["ar1", "ar2", "ar3", "br1", "tr1"]
        assert {r["connected"] for r in before["routers"]} == {False}
        site.connect_agents()
        site.agents["ar1"].refuses = lambda key: key.startswith("mobile")
        await site.attach("ar1", wait="applied")
        router = await _get(site, "/v1/routers/ar1", shapes.RouterShape)
        assert router["connected"]
        assert router["boot_id"] == "boot-ar1"
        assert router["role"] == "access"
        refused(await site.client.get("/v1/routers/ar9"), 404, "unknown-router")


async def test_a_plan_is_what_the_agent_holds() -> None:
    async with running() as site:
        await _moved(site)
        for name, agent in site.agents.items():
            plan = await _get(site, f"/v1/routers/{name}/plan", shapes.PlanShape)
            assert [entry["key"] for entry in plan["entries"]] == sorted(agent.holds)
            kinds = {entry["key"]: entry["kind"] for entry in plan["entries"]}
            assert kinds == {key: type(held).__name__ for key, held in agent.holds.items()}
        refused(await site.client.get("/v1/routers/ar9/plan"), 404, "unknown-router")


async def test_resync_reports_drift_and_refuses_without_an_agent() -> None:
    async with running() as site:
        site.agents["br1"].drifted = ("mobile 2001:db8::/64",)
        response = await site.client.post("/v1/routers/br1/resync")
        assert response.status_code == 200
        shapes.ReportShape.model_validate_json(response.content)
        report = response.json()
        assert report["missing"] == ["mobile 2001:db8::/64"]
        assert report["sid_packets"] == {"fc00::1": [1, 2, 3]}
        assert (await _get(site, "/v1/routers/br1", shapes.RouterShape))["drift"] == 1
        refused(await site.client.post("/v1/routers/ar9/resync"), 404, "unknown-router")
        site.agents["ar1"].disconnect()
        refused(await site.client.post("/v1/routers/ar1/resync"), 409, "router-not-connected")


async def _put_mode(site: Site, router: str, mode: str) -> httpx.Response:
    return await site.client.put(f"/v1/routers/{router}/mode", json={"mode": mode})


async def _mode(site: Site, router: str) -> Any:
    return (await _get(site, f"/v1/routers/{router}", shapes.RouterShape))["mode"]


async def test_a_router_changes_its_mode_and_shows_it() -> None:
    async with running(agents=False) as site:
        assert await _mode(site, "br1") is None
        site.connect_agents()
        assert await _mode(site, "br1") == "netlink"
        response = await _put_mode(site, "br1", "ebpf")
        assert response.status_code == 200, response.text
        shapes.ModeShape.model_validate_json(response.content)
        assert response.json() == {"router": "br1", "mode": "ebpf"}
        assert [await _mode(site, name) for name in ("br1", "ar1")] == ["ebpf", "netlink"]
        await site.agents["br1"].tell(Telemetry({"steered": 3}, (), ()))
        for mode, counted in (("ebpf", {"steered": 3}), ("netlink", {}), ("netlink", {})):
            assert (await _put_mode(site, "br1", mode)).json()["mode"] == mode
            router = await _get(site, "/v1/routers/br1", shapes.RouterShape)
            assert (router["mode"], router["fast_path"]) == (mode, counted)
        await _put_mode(site, "br1", "ebpf")
        site.agents["br1"] = Agent(site.controller, "br1")  # started again: in a mode of its own
        assert await _mode(site, "br1") == "netlink"


async def test_a_router_that_cannot_says_why_and_stays_as_it_is() -> None:
    async with running() as site:
        site.agents["br1"].unable = "map paths: operation not permitted"
        document = refused(await _put_mode(site, "br1", "ebpf"), 409, "mode-unavailable")
        assert document["mode"] == await _mode(site, "br1") == "netlink"
        assert "br1 stays in mode netlink: map paths" in document["detail"]
        refused(await _put_mode(site, "ar9", "ebpf"), 404, "unknown-router")
        refused(await _put_mode(site, "br1", "auto"), 422, "validation")
        refused(await site.client.put("/v1/routers/br1/mode"), 422, "validation")
        site.agents["ar1"].disconnect()
        refused(await _put_mode(site, "ar1", "ebpf"), 409, "router-not-connected")


async def test_an_agent_that_goes_away_while_it_changes_over() -> None:
    async with running() as site:
        site.agents["br1"].mute = True
        asking = [asyncio.create_task(_put_mode(site, "br1", mode)) for mode in ("ebpf", "netlink")]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in asking)
        await site.agents["br1"].tell(ModeReport("netlink", "netlink", None))
        assert (await asking[1]).json() == {"router": "br1", "mode": "netlink"}
        assert not asking[0].done(), "the answer to one question was taken for another's"
        site.agents["br1"].disconnect()
        refused(await asking[0], 409, "router-not-connected")


async def test_paths_between_routers() -> None:
    async with running(agents=False) as site:
        path = await _get(site, "/v1/paths?from=br1&to=ar1", shapes.PathShape)
        assert path["path"] == ["br1", "tr1", "ar1"]
        assert path["metric"] == 20
        assert path["overhead_bytes"] == 40
        sids = site.controller.planner.sids
        assert path["segments"] == [
            {"sid": str(sids["ar1"].end_dt6), "router": "ar1", "behavior": "End.DT6"}
        ]
        for source, target in (("br1", "nobody"), ("nobody", "ar1")):
            response = await site.client.get(f"/v1/paths?from={source}&to={target}")
            refused(response, 404, "unknown-router")


async def test_paths_of_a_mobile_node() -> None:
    async with running() as site:
        await _moved(site)
        at_home = await _get(site, "/v1/paths?mobile_node=mn1", shapes.NodePathsShape)
        assert at_home == {"mobile_node": "mn1", "paths": []}
        away = await _get(site, "/v1/paths?mobile_node=mn2", shapes.NodePathsShape)
        assert len(away["paths"]) == 6  # two steered prefixes at three head-ends
        at_border = await _get(site, "/v1/paths?mobile_node=mn2&from=br1", shapes.NodePathsShape)
        assert at_border["paths"] == [p for p in away["paths"] if p["from"] == "br1"]
        assert {p["to"] for p in at_border["paths"]} == {"ar3"}
        assert {s["behavior"] for p in away["paths"] for s in p["segments"]} == {"End.DT6"}
        refused(await site.client.get("/v1/paths?mobile_node=x"), 404, "unknown-mobile-node")
        response = await site.client.get("/v1/paths?mobile_node=mn2&from=x")
        refused(response, 404, "unknown-router")


async def test_topology() -> None:
    async with running(agents=False) as site:
        view = await _get(site, "/v1/topology", shapes.TopologyShape)
        assert set(view["nodes"]) == {"ar1", "ar2", "ar3", "br1", "tr1"}
        assert len(view["links"]) == 4
        assert view["sids"]["ar1"]["end_dt6"] == str(site.controller.planner.sids["ar1"].end_dt6)
        assert view["inner_mtu"] == site.controller.topology.inner_mtu()


async def test_health_and_readiness() -> None:
    async with running(agents=False) as site:
        await _get(site, "/healthz", shapes.HealthShape)
        assert await _get(site, "/readyz", shapes.ReadyShape) == {"status": "ready", "reasons": []}
        await site.controller.stop()
        response = await site.client.get("/readyz")
        assert response.status_code == 503
        shapes.ReadyShape.model_validate_json(response.content)
        assert response.json()["reasons"] == ["the controller is not running"]


def _samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics() -> None:
    async with running() as site:
        await _moved(site)
        await site.attach("ar9")
        await site.attach("ar9")
        response = await site.client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=")
        found = _samples(response.text)
        assert found["srv6dmm_events_total", "handover"] == 2
        assert found["srv6dmm_events_total", "registered"] == 2
        assert found["srv6dmm_refusals_total", "unknown-router"] == 2
        assert found["srv6dmm_handover_duration_seconds_count", "applied"] == 4
        assert found["srv6dmm_store_commit_seconds_count",] == 4
        assert found["srv6dmm_sessions", "active"] == 2
        assert found["srv6dmm_router_connected", "br1"] == 1
        assert found["srv6dmm_agent_applied_revision", "br1"] >= 4
        assert found["srv6dmm_drift_objects_total", "br1"] == 0
        assert found["srv6dmm_revision",] == site.controller.state.revision
        assert all(key[0].startswith("srv6dmm_") for key in found)
        assert "mn1" not in response.text
        assert "mn2" not in response.text


@pytest.mark.parametrize("late_packets_ms", [1, 60_000], ids=["stable", "redirect"])
async def test_the_count_of_steering_entries_is_that_of_the_plans(late_packets_ms: int) -> None:
    parameters = MobilityParameters(late_packets_ms=late_packets_ms)
    async with running(parameters=parameters) as site:
        await _moved(site)
        await site.detach("ar1", node="mn1", wait="applied")
        found = _samples((await site.client.get("/metrics")).text)
        for router in ("ar1", "ar2", "ar3", "br1"):
            plan = site.controller.plan(router)
            kinds = [type(entry).__name__ for entry in plan.entries.values()]
            assert found["srv6dmm_steering_entries", router] == kinds.count("SteeringEntry")


SIDS = (
    SidTraffic(IPv6Address("fc00:0:1:e00::"), Behavior.END, 5, 600),
    SidTraffic(IPv6Address("fc00:0:1:f01::"), Behavior.END_X, 2, 200),
    SidTraffic(IPv6Address("fc00:0:1:f02::"), Behavior.END_X, 7, 800),
)


async def test_what_the_fast_path_counted() -> None:
    async with running() as site:
        await _moved(site)
        session = (await _get(site, "/v1/mobile-nodes/mn2", shapes.NodeShape))["sessions"][0]
        prefix, other = (IPv6Network(binding["prefix"]) for binding in session["bindings"][:2])
        assert all(binding["traffic"] == [] for binding in session["bindings"])
        news = PrefixTraffic(prefix, 12, 3400, 700)
        reasons = {"steered": 12, "no-entry": 3, "source-unbound": 1, "of-a-later-release": 9}
        await site.agents["br1"].tell(Telemetry(reasons, (news,), ()))
        await site.agents["ar3"].tell(
            Telemetry({}, (PrefixTraffic(prefix, 11, 3300, 0), replace(news, prefix=other)), ())
        )
        await site.agents["ar3"].tell(Telemetry({"delivered": 11}, (), (other,)))

        session = (await _get(site, "/v1/mobile-nodes/mn2", shapes.NodeShape))["sessions"][0]
        traffic = {binding["prefix"]: binding["traffic"] for binding in session["bindings"]}
        at_ar3, at_br1 = traffic[str(prefix)]
        assert (at_ar3["router"], at_ar3["packets"], at_ar3["bytes"]) == ("ar3", 11, 3300)
        assert (at_br1["router"], at_br1["packets"], at_br1["bytes"]) == ("br1", 12, 3400)
        assert 700 <= at_br1["idle_ms"] < 700 + 5000
        assert at_ar3["idle_ms"] < 5000
        assert traffic[str(other)] == []
        router = await _get(site, "/v1/routers/br1", shapes.RouterShape)
        known = {"steered": 12, "no-entry": 3, "source-unbound": 1}
        assert router["fast_path"] == known
        text = (await site.client.get("/metrics")).text
        found = _samples(text)
        name = "srv6dmm_fastpath_packets_total"
        # Labels by name: outcome, reason, router.
        assert found[name, "handled", "steered", "br1"] == 12
        assert found[name, "kernel", "no-entry", "br1"] == 3
        assert found[name, "dropped", "source-unbound", "br1"] == 1
        assert found[name, "handled", "delivered", "ar3"] == 11
        assert "of-a-later-release" not in text
        assert str(prefix) not in text

        await site.agents["br1"].tell(Telemetry({}, (), (), sids=SIDS))
        await site.agents["br1"].tell(Telemetry({"steered": 13}, (), ()))  # no news of SIDs
        router = await _get(site, "/v1/routers/br1", shapes.RouterShape)
        assert router["sids"] == [
            {"sid": "fc00:0:1:e00::", "behavior": "End", "packets": 5, "bytes": 600},
            {"sid": "fc00:0:1:f01::", "behavior": "End.X", "packets": 2, "bytes": 200},
            {"sid": "fc00:0:1:f02::", "behavior": "End.X", "packets": 7, "bytes": 800},
        ]
        text = (await site.client.get("/metrics")).text
        found = _samples(text)
        assert found["srv6dmm_sid_packets_total", "End.X", "br1"] == 9
        assert found["srv6dmm_sid_bytes_total", "End.X", "br1"] == 1000
        assert found["srv6dmm_sid_packets_total", "End", "br1"] == 5
        assert "fc00:0:1:" not in text

        site.agents["br1"] = Agent(site.controller, "br1")  # it will tell all of it again
        router = await _get(site, "/v1/routers/br1", shapes.RouterShape)
        assert router["fast_path"] == {}
        assert router["sids"] == []


async def test_the_page_lists_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    listed = re.findall(r"^\| `(srv6dmm_\w+)` \| (\w+) \| ([\w, ]*)\|", page, re.MULTILINE)
    async with running() as site:
        await _moved(site)
        await site.attach("ar9")
        await site.agents["br1"].tell(Telemetry({"steered": 1}, (), (), sids=SIDS))
        text = (await site.client.get("/metrics")).text
    found = {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            frozenset().union(*(sample.labels for sample in family.samples)) - {"le"},
        )
        for family in text_string_to_metric_families(text)
    }
    assert {
        (name, kind, frozenset(filter(None, map(str.strip, labels.split(",")))))
        for name, kind, labels in listed
    } == found
