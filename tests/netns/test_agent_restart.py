"""An agent as a process of its own on a real kernel: applied, killed, restarted, repaired."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.wire import Ack, DeltaPlan, Failed, FullPlan, Hello, Report, Resync
from tests.agents import (
    AWAY,
    HOME,
    LOOPBACK,
    NODE,
    NODE_MAC,
    FakeController,
    controller,
    delivery,
    static_entries,
    steering,
)
from tests.netns.agent_spaces import (
    FOREIGN,
    MAIN,
    Events,
    Spaces,
    eventually,
    process,
    surroundings,
)
from tests.netns.kernels import Space

pytestmark = pytest.mark.root

WHOLE: tuple[PlanEntry, ...] = (*static_entries(), delivery(), steering())
OURS = 6 + 1  # one underlay, one pool, three SIDs, a delivery and a steering entry
SPARES = 2  # End and End.DT6 once more, for when the first core interface has no carrier


@pytest.fixture
def around() -> Iterator[Spaces]:
    with surroundings() as made:
        yield made


@asynccontextmanager
async def running(around: Spaces, tmp_path: Path) -> AsyncIterator[FakeController]:
    """A controller and an agent that has applied the whole plan at revision 7."""
    path = tmp_path / "controller"
    async with controller(path) as fake, process(around.router, path, tmp_path / "log"):
        assert (await fake.next(Hello)).applied is None
        await fake.send(FullPlan(7, WHOLE))
        assert (await fake.next(Ack)).revision == 7
        yield fake


def _ours(space: Space) -> dict[str, Any]:
    """Return the routes that packets take while everything works, by destination."""
    routes = space.routes("proto", "201")
    spares = [route for route in routes if route["metric"] != 201]
    assert len(spares) in (0, SPARES)
    assert {(spare["metric"], spare["dev"]) for spare in spares} <= {(202, "core1")}
    return {route["dst"]: route for route in routes if route["metric"] == 201}


def _foreign_is_untouched(space: Space) -> bool:
    held = {route["dst"] for route in space.routes("proto", "static")}
    neighbours = json.loads(space.ip("-j", "-6", "neigh", "show", "dev", "host0"))
    addresses = space.ip("-6", "address", "show", "dev", "lo")
    return (
        held == set(FOREIGN)
        and any(neighbour["dst"] == "fe80::99" for neighbour in neighbours)
        and "2001:db8:77::1/128" in addresses
    )


async def test_a_plan_becomes_kernel_state(around: Spaces, tmp_path: Path) -> None:
    router = around.router
    async with running(around, tmp_path) as fake:
        ours = _ours(router)
        assert len(ours) == OURS
        assert ours[str(HOME)]["gateway"] == str(NODE)
        assert ours[str(AWAY)]["encap"] == "seg6"
        assert ours["fc00:0:1::d06"]["action"] == "End.DT6"
        assert ours["2001:db8:1::/48"]["type"] == "unreachable"
        neighbours = json.loads(router.ip("-j", "-6", "neigh", "show", str(NODE)))
        assert [(n["lladdr"], n["state"]) for n in neighbours] == [(NODE_MAC, ["PERMANENT"])]
        links = {link["ifname"]: link for link in json.loads(router.ip("-j", "link"))}
        assert links["access"]["address"] == "02:00:5e:00:64:01"
        held = {
            (link["ifname"], address["local"])
            for link in json.loads(router.ip("-j", "-6", "address"))
            for address in link["addr_info"]
            if address.get("protocol") == "201" or address["scope"] == "global"
        }
        assert {("lo", str(LOOPBACK)), ("host0", "2001:db8:a::1")} <= held
        assert str(LOOPBACK) in router.ip("sr", "tunsrc", "show")
        assert _foreign_is_untouched(router)
        assert fake.silent()


async def test_killed_and_restarted_nothing_is_written_and_nothing_doubled(
    around: Spaces, tmp_path: Path
) -> None:
    router, path = around.router, tmp_path / "controller"
    async with controller(path) as fake:
        async with process(router, path, tmp_path / "log") as first:
            before = await fake.next(Hello)
            await fake.send(FullPlan(7, WHOLE))
            await fake.next(Ack)
            first.kill()
            assert await first.wait() == -9
        ours, events = _ours(router), Events(router)
        assert len(ours) == OURS
        async with process(router, path, tmp_path / "log") as second:
            after = await fake.next(Hello)
            assert after.applied is None
            assert after.boot_id != before.boot_id
            assert events.heard() == [], "a process without a plan touched the kernel"
            await fake.send(FullPlan(7, WHOLE))
            assert (await fake.next(Ack)).revision == 7
            await fake.send(Resync())
            report = await fake.next(Report)
            assert (report.missing, report.different, report.superfluous) == ((), (), ())
            assert events.heard() == [], "something was written that was right"
            assert _ours(router) == ours
            assert len(router.routes("proto", "201")) == OURS + SPARES
            # What went while it was away goes now, and only that.
            second.kill()
            await second.wait()
        async with process(router, path, tmp_path / "log"):
            await fake.next(Hello)
            await fake.send(FullPlan(8, tuple(static_entries())))
            await fake.next(Ack)
            assert _ours(router).keys() == ours.keys() - {str(HOME), str(AWAY)}
            assert _foreign_is_untouched(router)
            assert router.ip("-6", "neigh", "show", str(NODE)) == ""
        events.close()


async def test_sigterm_ends_it_cleanly_and_the_kernel_keeps_everything(
    around: Spaces, tmp_path: Path
) -> None:
    router, path = around.router, tmp_path / "controller"
    async with controller(path) as fake, process(router, path, tmp_path / "log") as made:
        await fake.next(Hello)
        await fake.send(FullPlan(7, WHOLE))
        await fake.next(Ack)
        events = Events(router)
        made.terminate()
        assert await made.wait() == 0
        assert events.heard() == []
        events.close()
    assert len(_ours(router)) == OURS
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_what_somebody_takes_away_comes_back(around: Spaces, tmp_path: Path) -> None:
    router = around.router
    async with running(around, tmp_path) as fake:
        ours = _ours(router)
        router.ip("-6", "route", "delete", str(AWAY))
        report = await fake.next(Report)
        assert report.missing == (f"mobile {AWAY}",)
        assert _ours(router) == ours
        router.ip("-6", "route", "replace", "blackhole", str(HOME), "metric", "201")
        router.ip("neigh", "delete", str(NODE), "dev", "access")
        router.ip("-6", "address", "delete", f"{LOOPBACK}/128", "dev", "lo")
        report = await fake.next(Report)
        assert set(report.missing) == {f"mobile {HOME}", "settings"}
        assert _ours(router) == ours
        assert str(NODE) in router.ip("-6", "neigh", "show")
        assert str(LOOPBACK) in router.ip("-6", "address", "show", "dev", "lo")
        assert _foreign_is_untouched(router)
        assert fake.silent()


async def test_what_somebody_adds_in_our_name_goes(around: Spaces, tmp_path: Path) -> None:
    router = around.router
    async with running(around, tmp_path) as fake:
        router.ip("-6", "route", "add", "blackhole", "2001:db8:99::/64", "proto", "201")
        report = await fake.next(Report)
        assert len(report.superfluous) == 1
        assert "2001:db8:99::/64" in report.superfluous[0]
        assert len(_ours(router)) == OURS


async def test_a_link_set_down_stays_down_and_all_is_back_when_it_is_up(
    around: Spaces, tmp_path: Path
) -> None:
    router = around.router
    async with running(around, tmp_path) as fake:
        ours = _ours(router)
        router.ip("link", "set", "core0", "down")
        failed = await fake.next(Failed)
        assert {failure.key for failure in failed.failures} >= {f"mobile {AWAY}"}
        state = json.loads(router.ip("-j", "link", "show", "core0"))
        assert "UP" not in state[0]["flags"]
        await eventually(lambda: fake.links_down == ("core0",))
        assert str(HOME) in _ours(router), "what does not need the link stays"
        router.ip("link", "set", "core0", "up")
        while not isinstance(message := await fake.next(object), Ack):
            assert isinstance(message, Failed | Report)
        assert message.revision == 7
        await eventually(lambda: _ours(router) == ours)


async def test_a_refusal_names_the_entry_and_leaves_the_rest(
    around: Spaces, tmp_path: Path
) -> None:
    async with running(around, tmp_path) as fake:
        other = steering(interface="nosuch0")
        await fake.send(DeltaPlan(7, 8, (steering(HOME), other), ()))
        failed = await fake.next(Failed)
        assert failed.revision == 8
        assert [(f.key, f.errno) for f in failed.failures] == [(f"mobile {AWAY}", 19)]
        assert "nosuch0" in failed.failures[0].reason
        ours = _ours(around.router)
        assert ours[str(HOME)]["encap"] == "seg6"
        assert ours[str(AWAY)]["dev"] == "core0", "the old path is untouched"
        await fake.send(DeltaPlan(8, 9, (steering(),), ()))
        assert (await fake.next(Ack)).revision == 9


async def test_a_small_change_is_applied_and_read_back_within_milliseconds(
    around: Spaces, tmp_path: Path, record_property: Any
) -> None:
    async with running(around, tmp_path) as fake:
        took = []
        for revision in range(8, 208):
            entry = steering(HOME) if revision % 2 else delivery()
            await fake.send(DeltaPlan(revision - 1, revision, (entry,), ()))
            took.append((await fake.next(Ack)).took_ms)
        took.sort()
        record_property("median_ms", took[100])
        record_property("p99_ms", took[198])
        assert took[100] < 2.0, f"median {took[100]:.2f} ms, p99 {took[198]:.2f} ms"


def _command(*arguments: str) -> str:
    done = subprocess.run(
        [*MAIN, "agent", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_status_and_flush_need_no_agent(around: Spaces, tmp_path: Path) -> None:
    router = around.router
    async with running(around, tmp_path):
        pass
    status = json.loads(_command("status", "--netns", router.name, "--json"))
    assert status["objects"] == {
        "routes": 3,
        "steering": 1,
        "sids": 3,
        "neighbours": 1,
        "addresses": 5,
        "tunnel source": 1,
        "fast ports": 0,
        "fast entries": 0,
    }
    assert status["sids"]["fc00:0:1::e00"] == {"packets": 0, "bytes": 0, "errors": 0}
    removed = json.loads(_command("flush", "--netns", router.name, "--json"))["removed"]
    assert removed == 3 + 1 + (3 + SPARES) + 1 + 5
    assert _ours(router) == {}
    assert router.ip("-6", "neigh", "show", str(NODE)) == ""
    assert str(LOOPBACK) not in router.ip("-6", "address")
    assert _foreign_is_untouched(router)
