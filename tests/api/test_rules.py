"""Policies, flow rules and groups over HTTP: made, judged, shown, waited for, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from srv6dmm_api import alternative_shapes, explain_shapes, rule_shapes

from srv6dmm.model.plan import FlowSteering
from srv6dmm.model.topology import Link, LinkEnd, Topology
from srv6dmm.model.wire import FlowTraffic, Telemetry
from tests.api.support import Site, refused, running
from tests.domains import small_domain

OUTSIDE = "2001:db8:cafe::/64"
SPARE = {"candidates": [{"paths": [{"constraints": {"avoid_links": ["br1:core0"]}}]}]}
VOICE = {
    "policy": "spare",
    "mobile_node": "mn1",
    "match": {"peer": OUTSIDE, "protocol": 17, "peer_ports": [5000, 5010]},
}


def ring() -> Topology:
    """Return the small domain with a second, longer way between its border and ar1."""
    small = small_domain()
    spare = Link(LinkEnd("ar1", "spare"), LinkEnd("br1", "spare"), metric=50, mtu=1600)
    domain = replace(small.domain, max_segments=3, affinities=(("gold", 1),))
    return replace(small, domain=domain, links=(*small.links, spare))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running(ring()) as made:
        yield made


async def put(site: Site, path: str, body: dict[str, Any], **query: str) -> dict[str, Any]:
    response = await site.client.put(f"/v1/{path}", json=body, params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    rule_shapes.ChangedShape.model_validate(answer)
    return answer


async def get(site: Site, path: str, shape: type[BaseModel]) -> dict[str, Any]:
    response = await site.client.get(f"/v1/{path}")
    assert response.status_code == 200, response.text
    shape.model_validate_json(response.content)
    found: dict[str, Any] = response.json()
    return found


def flows(site: Site, router: str) -> list[FlowSteering]:
    held = site.agents[router].holds.values()
    return [entry for entry in held if isinstance(entry, FlowSteering)]


async def test_what_a_flow_entry_counted(site: Site) -> None:
    """Per head-end and entry; nothing of it is a metric's label."""
    await site.attach("ar1", wait="applied")
    await put(site, "policies/spare", SPARE)
    await put(site, "flows/voice", VOICE, wait="applied")
    (flow,) = flows(site, "br1")
    (entry,) = (await get(site, "flows/voice", rule_shapes.FlowShape))["entries"]
    assert entry["traffic"] is None
    told = (FlowTraffic(flow.number, 12, 3400, 700), FlowTraffic(flow.number ^ 1, 1, 1, 1))
    await site.agents["br1"].tell(Telemetry({}, (), (), told))
    await site.agents["ar1"].tell(Telemetry({}, (), (), told[1:]))
    (entry,) = (await get(site, "flows/voice", rule_shapes.FlowShape))["entries"]
    traffic = entry["traffic"]
    assert (traffic["packets"], traffic["bytes"]) == (12, 3400)
    assert 700 <= traffic["idle_ms"] < 700 + 5000
    text = (await site.client.get("/metrics")).text
    assert "voice" not in text
    assert str(flow.number) not in text
    await site.agents["br1"].tell(Telemetry({}, (), (), (), (flow.number,)))
    (entry,) = (await get(site, "flows/voice", rule_shapes.FlowShape))["entries"]
    assert entry["traffic"] is None


async def test_a_flow_takes_its_policy_and_gives_it_back(site: Site) -> None:
    await site.attach("ar1", wait="applied")
    await put(site, "policies/spare", SPARE)
    answer = await put(site, "flows/voice", VOICE, wait="applied")
    assert answer["applied"] is True
    (flow,) = flows(site, "br1")
    assert flow.lists[0].interface == "spare"
    found = await get(site, "flows/voice", rule_shapes.FlowShape)
    assert [entry["router"] for entry in found["entries"]] == ["br1"]
    assert found["entries"][0]["lists"][0]["interface"] == "spare"
    listed = await get(site, "flows", rule_shapes.FlowsShape)
    assert [rule["name"] for rule in listed["flows"]] == ["voice"]
    gone = await site.client.delete("/v1/flows/voice", params={"wait": "applied"})
    assert gone.json()["applied"] is True
    assert not flows(site, "br1")


async def test_post_makes_what_is_not_there_and_put_whatever_is(site: Site) -> None:
    body = {**SPARE, "name": "spare"}
    assert (await site.client.post("/v1/policies", json=body)).status_code == 201
    refused(await site.client.post("/v1/policies", json=body), 409, "name-taken")
    await put(site, "policies/spare", {**SPARE, "invalid": "drop"})
    found = await get(site, "policies/spare", rule_shapes.PolicyShape)
    assert found["invalid"] == "drop"
    assert found["candidates"][0]["paths"][0]["constraints"] == {"avoid_links": ["br1:core0"]}
    listed = await get(site, "policies", rule_shapes.PoliciesShape)
    assert listed["policies"] == [found]


async def test_what_is_named_stays(site: Site) -> None:
    await put(site, "policies/spare", SPARE)
    await put(site, "groups/all", {"members": ["mn1", "mn2"]})
    await put(site, "flows/voice", {"policy": "spare", "group": "all"})
    await put(site, "policies/other", {**SPARE, "disjoint_from": "spare"})
    document = refused(await site.client.delete("/v1/policies/spare"), 409, "in-use")
    assert document["users"] == ["flow voice", "policy other"]
    document = refused(await site.client.delete("/v1/groups/all"), 409, "in-use")
    assert document["users"] == ["flow voice"]
    assert (await get(site, "groups/all", rule_shapes.GroupShape))["used_by"] == ["flow voice"]
    for path in ("flows/voice", "policies/other", "policies/spare", "groups/all"):
        assert (await site.client.delete(f"/v1/{path}")).status_code == 200
        kind = {"flows": "flow", "policies": "policy", "groups": "group"}[path.split("/")[0]]
        refused(await site.client.delete(f"/v1/{path}"), 404, f"unknown-{kind}")


def faults(response: httpx.Response) -> dict[str, str]:
    document = refused(response, 422, "validation")
    return {fault["pointer"]: fault["message"] for fault in document["errors"]}


@pytest.mark.parametrize(
    ("path", "pointer", "words"),
    [
        ({"waypoints": [{"router": "tr9"}]}, "waypoints/0", "unknown router 'tr9'"),
        ({"constraints": {"include_any": ["golden"]}}, "constraints/include_any", "golden"),
        ({"constraints": {"avoid_links": ["br1:core9"]}}, "constraints/avoid_links", "core9"),
        (
            {"constraints": {"include_all": ["gold"], "exclude_any": ["gold"]}},
            "constraints/exclude_any",
            "no link has it",
        ),
        ({"segments": ["fc00:0:99::1"]}, "segments/0", "is no SID of a router"),
        ({"segments": ["fc00:0:3:d06::"] * 4}, "segments", "4 segments are more than 3"),
    ],
)
async def test_a_policy_with_unknown_or_contradicting_parts_is_refused(
    site: Site, path: dict[str, Any], pointer: str, words: str
) -> None:
    body = {"candidates": [{"paths": [path]}]}
    found = faults(await site.client.put("/v1/policies/p", json=body))
    message = found[f"/candidates/0/paths/0/{pointer}"]
    assert words in message
    assert not site.controller.state.policies


async def test_a_policy_that_no_path_fits_is_refused_with_the_reason(site: Site) -> None:
    body = {"candidates": [{"paths": [{"constraints": {"minimum_mtu": 9000}}]}]}
    found = faults(await site.client.put("/v1/policies/p", json=body))
    assert "no two routers have a path that it allows; from" in found["/candidates"]
    assert "without minimum_mtu 9000 (it carries 1480 bytes)" in found["/candidates"]


async def test_disjointness_from_nobody_or_from_itself_is_refused(site: Site) -> None:
    for other, words in (("spar", "unknown policy"), ("p", "wait for each other: p -> p")):
        body = {**SPARE, "disjoint_from": other}
        found = faults(await site.client.put("/v1/policies/p", json=body))
        assert words in found["/disjoint_from"]
    await put(site, "policies/a", SPARE)
    await put(site, "policies/b", {**SPARE, "disjoint_from": "a"})
    body = {**SPARE, "disjoint_from": "b"}
    found = faults(await site.client.put("/v1/policies/a", json=body))
    assert "a -> b -> a" in found["/disjoint_from"]


@pytest.mark.parametrize(
    ("binding", "key", "words"),
    [
        ({"head_end": "tr1", "endpoint": "ar1", "sid": "fc00:0:1::9"}, "head_end", "unknown"),
        ({"head_end": "br1", "endpoint": "ar1", "sid": "fc00:0:1:9::"}, "sid", "not in the loc"),
        ({"head_end": "br1", "endpoint": "ar9", "sid": "fc00:0:2:9::"}, "endpoint", "no router"),
        ({"head_end": "br1", "endpoint": "br1", "sid": "fc00:0:2:9::"}, "endpoint", "itself"),
        ({"head_end": "br1", "endpoint": "ar1", "sid": "fc00:0:2:e00::"}, "sid", "end of br1"),
        ({"head_end": "br1", "endpoint": "ar1", "sid": "fc00:0:2::1"}, "sid", "own address"),
    ],
)
async def test_binding_sids_that_cannot_be_are_refused(
    site: Site, binding: dict[str, str], key: str, words: str
) -> None:
    body = {**SPARE, "binding_sids": [binding]}
    found = faults(await site.client.put("/v1/policies/p", json=body))
    assert words in found[f"/binding_sids/0/{key}"]


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"policy": "sparse"}, "/policy", "did you mean 'spare'"),
        ({"group": "all"}, "/mobile_node", "either a mobile node or a group"),
        ({"mobile_node": None}, "/mobile_node", "either a mobile node or a group"),
        ({"mobile_node": None, "group": "al"}, "/group", "unknown group 'al'"),
        ({"match": {"peer_ports": [5, 6]}}, "/match/peer_ports", "without protocol"),
        ({"match": {"protocol": 58, "own_ports": [5, 6]}}, "/match/own_ports", "without proto"),
        ({"match": {"protocol": 17, "own_ports": [6, 5]}}, "/match/own_ports", "6-5 is no range"),
        ({"match": {"own_prefix": "2001:db8:ffff::/64"}}, "/match/own_prefix", "in no pool"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(
    site: Site, change: dict[str, Any], pointer: str, words: str
) -> None:
    await put(site, "policies/spare", SPARE)
    await put(site, "groups/all", {"members": ["mn1"]})
    found = faults(await site.client.put("/v1/flows/f", json={**VOICE, **change}))
    assert words in found[pointer]
    assert not site.controller.state.flows


@pytest.mark.parametrize(
    ("change", "overlaps"),
    [
        ({}, True),
        ({"priority": 101}, False),
        ({"mobile_node": "mn2"}, False),
        ({"mobile_node": None, "group": "all"}, True),
        ({"match": {"protocol": 6}}, False),
        ({"match": {"protocol": 17, "peer_ports": [5010, 5020]}}, True),
        ({"match": {"protocol": 17, "peer_ports": [5011, 5020]}}, False),
        ({"match": {"peer": "2001:db8:cafe::/48"}}, True),
        ({"match": {"peer": "2001:db8:beef::/48"}}, False),
        ({"direction": "uplink"}, True),
    ],
)
async def test_rules_of_equal_priority_do_not_overlap(
    site: Site, change: dict[str, Any], overlaps: bool
) -> None:
    await put(site, "policies/spare", SPARE)
    await put(site, "groups/all", {"members": ["mn1", "mn2"]})
    await put(site, "flows/voice", VOICE)
    response = await site.client.put("/v1/flows/other", json={**VOICE, **change})
    if overlaps:
        assert "other and voice have priority 100" in faults(response)["/priority"]
    else:
        assert response.status_code == 200, response.text


async def test_a_group_may_not_grow_into_an_overlap(site: Site) -> None:
    await put(site, "policies/spare", SPARE)
    await put(site, "groups/all", {"members": ["mn2"]})
    await put(site, "flows/voice", VOICE)
    await put(site, "flows/all", {**VOICE, "mobile_node": None, "group": "all"})
    found = faults(await site.client.put("/v1/groups/all", json={"members": ["mn1", "mn2"]}))
    assert "all and voice have priority 100 and can both match" in found["/members"]
    assert site.controller.state.groups["all"].members == {"mn2"}


async def test_more_entries_than_a_router_takes_are_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srv6dmm.core.flow_checks.MAXIMUM_FLOW_ENTRIES", 1)
    await site.attach("ar1", node="mn1", wait="applied")
    await site.attach("ar1", node="mn2", wait="applied")
    await put(site, "policies/spare", SPARE)
    await put(site, "groups/all", {"members": ["mn1", "mn2"]})
    body = {"policy": "spare", "group": "all"}
    found = faults(await site.client.put("/v1/flows/f", json=body))
    words = "br1 would hold 2 flow entries with all nodes attached; 1 are possible"
    assert words in found["/match"]
    await put(site, "flows/f", {"policy": "spare", "mobile_node": "mn1"})


async def test_a_group_counts_before_its_nodes_are_there(site: Site) -> None:
    await put(site, "policies/spare", SPARE)
    members = [f"mn{number}" for number in range(513)]
    await put(site, "groups/all", {"members": members})
    body = {"policy": "spare", "group": "all"}
    found = faults(await site.client.put("/v1/flows/f", json=body))
    assert "br1 would hold 513 flow entries with all nodes attached" in found["/match"]
    await put(site, "groups/all", {"members": members[:512]})
    await put(site, "flows/f", body)
    found = faults(await site.client.put("/v1/groups/all", json={"members": members}))
    assert "br1 would hold 513 flow entries" in str(found)


async def test_a_router_that_refuses_a_flow_is_named(site: Site) -> None:
    await site.attach("ar1", wait="applied")
    site.agents["br1"].refuses = lambda key: key.startswith("flow")
    await put(site, "policies/spare", SPARE)
    response = await site.client.put("/v1/flows/voice", json=VOICE, params={"wait": "applied"})
    document = refused(response, 504, "not-applied")
    assert document["routers"] == ["br1"]
    assert "voice" in site.controller.state.flows


async def test_an_explanation_has_its_shape_and_says_why(site: Site) -> None:
    await site.attach("ar1", wait="applied")
    await put(site, "policies/spare", SPARE)
    await put(site, "flows/voice", VOICE, wait="applied")
    path = (
        "paths/explain?mn=mn1&dst=2001:db8:cafe::2&direction=downlink&proto=17&sport=5004&dport=9"
    )
    found = await get(site, path, explain_shapes.ExplanationShape)
    assert found["rules"][0]["decides"]
    assert [hop["router"] for hop in found["walks"][0]["hops"]] == ["br1", "ar1"]
    assert found["walks"][0]["outcome"] == "delivered"
    assert all(hop["applied"] for hop in found["walks"][0]["hops"])
    other = await get(site, path.replace("5004", "5011"), explain_shapes.ExplanationShape)
    assert other["rules"][0]["reason"] == "source port 5011 is not in 5000-5010"
    assert [hop["router"] for hop in other["walks"][0]["hops"]] == ["br1", "tr1", "ar1"]
    response = await site.client.get("/v1/paths/explain?mn=mn1&dst=nobody")
    refused(response, 422, "validation")


async def test_a_drained_link_is_left_and_taken_again(site: Site) -> None:
    await site.attach("ar1", wait="applied")
    before = (await site.client.get("/v1/topology/document")).json()
    patch = {"topology": {"links": [{"endpoints": ["ar1:core0", "tr1:port0"], "drained": True}]}}
    response = await site.client.patch("/v1/topology", json=patch, params={"wait": "applied"})
    assert response.json()["applied"] is True, response.text
    route = site.agents["br1"].holds["underlay fc00:0:3::/48"]
    assert route.next_hops[0][0] == "spare"
    assert site.controller.topology.revision == 2
    restored = await site.client.put("/v1/topology", json=before, params={"wait": "applied"})
    assert restored.json()["applied"] is True
    assert site.agents["br1"].holds["underlay fc00:0:3::/48"].next_hops[0][0] == "core0"


async def test_a_topology_that_cannot_be_is_refused_with_the_element(site: Site) -> None:
    await put(
        site,
        "policies/g",
        {"candidates": [{"paths": [{"constraints": {"exclude_any": ["gold"]}}]}]},
    )
    for patch, pointer, words in (
        ({"topology": {"links": [{"endpoints": ["br1:x", "tr9:y"]}]}}, "/topology/links", "tr9"),
        ({"topology": {"nodes": {"new": {"role": "transit"}}}}, "/topology/nodes/new", ""),
        (
            {"domain": {"affinities": None}},
            "/domain/affinities",
            "policy g would be left with a fault",
        ),
        ({"domain": {"sid-block": "fc01::/32"}}, "", ""),
    ):
        found = faults(await site.client.patch("/v1/topology", json=patch))
        assert any(
            place.startswith(pointer) and words in message for place, message in found.items()
        ), found
    assert site.controller.topology.revision == 1


async def test_alternatives_and_the_pair_that_shares_nothing(site: Site) -> None:
    found = await get(
        site, "paths/alternatives?from=br1&to=ar1&count=5", alternative_shapes.AlternativesShape
    )
    assert [path["igp_metric"] for path in found["paths"]] == [20, 50]
    assert found["disjoint"] == "routers"
    assert [path["links"] for path in found["pair"]] == [
        ["br1:core0", "tr1:port0"],
        ["br1:spare"],
    ]
    assert all(path["segments"] for path in found["pair"])
    alone = await get(
        site, "paths/alternatives?from=br1&to=ar2&count=1", alternative_shapes.AlternativesShape
    )
    assert len(alone["paths"]) == 1
    assert (alone["disjoint"], alone["pair"]) == (None, [])
    assert "share a link" in alone["reason"]


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("from=br1&to=nobody", 404, "unknown-router"),
        ("from=ar1&to=ar1", 422, "validation"),
        ("from=br1&to=ar1&count=0", 422, "validation"),
        ("from=br1&to=ar1&objective=fun", 422, "validation"),
        ("from=br1", 422, "validation"),
    ],
)
async def test_alternatives_that_cannot_be(site: Site, query: str, status: int, kind: str) -> None:
    refused(await site.client.get(f"/v1/paths/alternatives?{query}"), status, kind)
