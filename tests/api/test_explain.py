"""`/v1/paths/explain`: what routers say of themselves, and probes, over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from srv6dmm_api import explain_shapes

from srv6dmm.model.wire import Sighting
from tests.api.support import MAC, Site, refused, running
from tests.api.test_cli import shell
from tests.domains import small_domain

CN = "2001:db8:cafe::2"
OWN = "2001:db8:a003::7"
LOCATOR, DECAPSULATE = "fc00:0:4::/48", IPv6Address("fc00:0:4:d06::")
QUESTION = {"mn": "mn1", "dst": CN, "direction": "downlink", "address": OWN}
GET = f"/v1/paths/explain?mn=mn1&dst={CN}&direction=downlink&address={OWN}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """mn1 is at ar2, with an address of ar1's."""
    async with running(small_domain()) as made:
        await made.attach("ar1", wait="applied")
        await made.attach("ar2", wait="applied")
        yield made


def sighting(interface: str, outgoing: bool, at_us: int, *headers: tuple[IPv6Address, ...]) -> Any:
    return Sighting(
        "", interface, outgoing, 1_000_000 + 1000 * at_us,
        IPv6Address(CN), IPv6Address(OWN), 59, 64, headers,
    )  # fmt: skip


def passing(site: Site) -> None:
    """Have agents see the probe where it is to go: br1, tr1, ar2."""
    outer = (DECAPSULATE,)
    site.agents["br1"].sees = [
        sighting("core0", False, 1),
        sighting("core0", True, 2, outer),
    ]
    site.agents["tr1"].sees = [
        sighting("port3", False, 3, outer),
        sighting("port1", True, 4, outer),
    ]
    site.agents["ar2"].sees = [
        sighting("core0", False, 5, outer),
        sighting("acc0", True, 6),
    ]


async def explained(site: Site) -> dict[str, Any]:
    response = await site.client.get(GET)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    explain_shapes.ExplanationShape.model_validate(answer)
    return answer


async def probed(site: Site, **more: Any) -> dict[str, Any]:
    response = await site.client.post("/v1/paths/explain", json=QUESTION | more)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    explain_shapes.LiveExplanationShape.model_validate(answer)
    return answer


def hops(answer: dict[str, Any]) -> dict[str, Any]:
    return {hop["router"]: hop for hop in answer["walks"][0]["hops"]}


async def test_every_router_tells_what_it_holds_and_counts(site: Site) -> None:
    answer = await explained(site)
    assert list(hops(answer)) == ["br1", "tr1", "ar2"]
    for hop in hops(answer).values():
        assert (hop["in_sync"], hop["reason"], hop["applied"]) == (True, None, True)
        for step in hop["steps"]:
            assert (step["state"], step["found"]) == ("present", [])
            assert (step["packets"], step["bytes"], step["errors"]) == (7, 700, 1)


async def test_what_is_missing_in_a_kernel_is_named(site: Site) -> None:
    key = f"underlay {LOCATOR}"
    site.agents["tr1"].lost = {key: "route is not there"}
    answer = await explained(site)
    found = hops(answer)
    assert found["tr1"]["in_sync"] is False
    assert found["tr1"]["reason"] == f"{key}: route is not there"
    assert found["tr1"]["steps"][0]["state"] == "missing"
    assert found["br1"]["in_sync"] is True


async def test_an_older_plan_is_told_of(site: Site) -> None:
    key = next(key for key in site.agents["br1"].holds if key.startswith("mobile "))
    del site.agents["br1"].holds[key]
    found = hops(await explained(site))
    assert found["br1"]["in_sync"] is False
    assert key in found["br1"]["reason"]


async def test_a_router_that_is_away_is_said_to_be(site: Site) -> None:
    site.agents["tr1"].disconnect()
    site.agents["ar2"].deaf = True
    started = time.monotonic()
    found = hops(await explained(site))
    assert time.monotonic() - started < 2
    assert found["tr1"]["in_sync"] is None
    assert "tr1 is not connected" in found["tr1"]["reason"]
    assert found["ar2"]["in_sync"] is None
    assert "did not answer within 1 s" in found["ar2"]["reason"]
    assert found["ar2"]["steps"][0]["state"] is None
    assert found["br1"]["in_sync"] is True


async def test_a_probe_that_goes_as_simulated(site: Site) -> None:
    passing(site)
    live = (await probed(site))["live"]
    assert live["routers"] == ["br1", "tr1", "ar2"]
    assert (live["sent"], live["agrees"], live["difference"]) == (True, True, None)
    assert live["ending"] == "it left ar2 by acc0"
    assert [one["at_us"] for one in live["observations"]] == [1, 2, 3, 4, 5, 6]
    (probe,) = site.agents["br1"].probes
    assert (str(probe.source), str(probe.destination), probe.protocol) == (CN, OWN, 59)
    assert len(bytes.fromhex(probe.token)) == 8
    assert live["token"] == probe.token


async def test_an_uplink_probe_comes_from_its_node(site: Site) -> None:
    """The router checks who sends: it is the node's link-layer address that the frame has."""
    await probed(site, direction="uplink", proto=17, sport=1000, dport=2000, dscp=46)
    (probe,) = site.agents["ar2"].probes
    assert (probe.interface, probe.link_layer_address) == ("acc0", MAC)
    assert (probe.protocol, probe.source_port, probe.destination_port) == (17, 1000, 2000)
    assert probe.dscp == 46


async def test_a_probe_that_goes_another_way(site: Site) -> None:
    passing(site)
    site.agents["tr1"].sees[1:] = [sighting("port0", True, 4, (DECAPSULATE,))]
    live = (await probed(site))["live"]
    assert live["agrees"] is False
    assert live["difference"] == "simulated: tr1: out of port1; live: out of port0"
    assert live["ending"] == "it left tr1 by port0 and did not come to ar1"


async def test_where_nobody_looks_the_neighbours_tell(site: Site) -> None:
    passing(site)
    site.agents["tr1"].blind = "no packet sockets here"
    live = (await probed(site))["live"]
    assert live["routers"] == ["br1", "tr1", "ar2"]
    assert [hop["seen"] for hop in live["hops"]] == [True, False, True]
    assert live["agrees"] is None
    assert live["difference"] is None
    assert live["unwatched"] == [{"router": "tr1", "reason": "no packet sockets here"}]


async def test_errors_that_come_back_are_no_part_of_the_way(site: Site) -> None:
    passing(site)
    error = sighting("core0", True, 9)
    site.agents["br1"].sees.append(
        Sighting(
            "", "core0", True, error.at_ns, IPv6Address("fc00:0:1::1"), error.source, 58, 64, ()
        )
    )
    live = (await probed(site))["live"]
    assert live["agrees"] is True
    assert live["answered_by"] == ["fc00:0:1::1"]


async def test_a_probe_that_cannot_be_sent_says_why(site: Site) -> None:
    site.agents["br1"].unsent = "core0: this kernel cannot"
    live = (await probed(site))["live"]
    assert (live["sent"], live["agrees"], live["routers"]) == (False, None, [])
    assert live["reason"] == "core0: this kernel cannot"
    site.agents["br1"].deaf = True
    await asyncio.sleep(0.11)
    live = (await probed(site))["live"]
    assert live["reason"] == "the agent of br1 did not answer in time"
    site.agents["br1"].disconnect()
    await asyncio.sleep(0.11)
    response = await site.client.post("/v1/paths/explain", json=QUESTION)
    assert "br1" in refused(response, 409, "router-not-connected")["detail"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"proto": 17, "sport": 1}, "proto 17 has ports: a probe needs sport and dport"),
        ({"proto": 43}, "proto 43 is an extension header"),
        ({"dst": "nobody"}, "body /dst"),
        ({"address": "x"}, "body /address"),
        ({"address": CN}, "is in none of mn1's prefixes"),
        ({"head_end": "tr1"}, "'tr1' is no access or border router"),
        ({"proto": 256}, "/proto"),
        ({"live": True}, "/live"),
    ],
)
async def test_questions_that_make_no_packet_are_refused(
    site: Site, more: dict[str, Any], words: str
) -> None:
    response = await site.client.post("/v1/paths/explain", json=QUESTION | more)
    assert words in refused(response, 422, "validation")["detail"]
    assert not any(agent.probes for agent in site.agents.values())


async def test_one_probe_at_a_time_and_ten_a_second(site: Site) -> None:
    site.agents["tr1"].deaf = True  # and so the first takes a while
    first = asyncio.create_task(site.client.post("/v1/paths/explain", json=QUESTION))
    await asyncio.sleep(0.15)
    second = await site.client.post("/v1/paths/explain", json=QUESTION)
    refused(second, 429, "too-many-probes")
    assert second.headers["retry-after"] == "1"
    assert (await first).status_code == 200
    site.agents["tr1"].deaf = False
    assert (await site.client.post("/v1/paths/explain", json=QUESTION)).status_code == 200


async def test_the_command_says_it_in_eighty_columns(tmp_path: Path) -> None:
    async with shell(tmp_path) as given:
        await given.site.attach("ar1", wait="applied")
        await given.site.attach("ar2", wait="applied")
        passing(given.site)
        site = given.site
        site.agents["tr1"].lost = {f"underlay {LOCATOR}": "route " + "x" * 90 + " is not there"}
        asked = ["path", "explain", "--mn", "mn1", "--dst", CN, "--downlink", "--address", OWN]
        told = await given.run(*asked)
        assert max(map(len, told.splitlines())) <= 80
        assert "at tr1   NOT IN SYNC" in told
        assert "counted 7 packets, 700 bytes, 1 errors" in told
        assert "verdict" not in told
        assert not any(agent.probes for agent in site.agents.values())
        told = await given.run(*asked, "--live")
        assert max(map(len, told.splitlines())) <= 80
        assert "live     came in at br1:core0; it left ar2 by acc0" in told
        assert "verdict  as simulated" in told
        await asyncio.sleep(0.1)
        live = await given.json(*asked, "--proto", "udp", "--sport", "1", "--dport", "2", "--live")
        assert live["live"]["sent"] is True
        assert live["packet"]["destination_port"] == 2
        complaint = await given.run(*asked, "--proto", "udp", "--live", status=1)
        assert "a probe needs sport and dport" in complaint
