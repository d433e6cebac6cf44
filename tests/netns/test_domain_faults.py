"""Kill -9 of every daemon at every stage of a roll-out, in the middle of traffic."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from srv6dmm.lab.domain import CONTROLLER, agent_name
from tests.netns.running import Running, lossless, running, wait_for

pytestmark = pytest.mark.root

FROZEN = {"prepare": "new", "switch": "br1", "redirect": "old"}
"""Stage -> the router whose silence holds the roll-out in it."""


@pytest.fixture(scope="module")
def domain() -> Iterator[Running]:
    with running("minimal.yaml", "flt") as up:
        up.home("mn1", "ar1")
        yield up


def hold(domain: Running, stage: str) -> tuple[str, str, str]:
    """Begin a soft hand-over and hold it in a stage; return (old, new, frozen process)."""
    old = domain.session("mn1")["serving"]
    new = "ar2" if old == "ar1" else "ar1"
    frozen = agent_name({"new": new, "old": old}.get(FROZEN[stage], "br1"))
    domain.domain.interrupt(frozen)
    domain.scenario.radio.listen("mn1", {old, new})
    domain.scenario.attach("mn1", new, wait="durable")
    try:
        wait_for(f"roll-out in {stage}", lambda: domain.session("mn1")["rollout"] == stage, 2)
    except AssertionError:
        domain.domain.resume(frozen)
        raise
    return old, new, frozen


def finish(domain: Running, new: str) -> None:
    """Let the roll-out end and hold every kernel against its plan."""
    wait_for("every router ready", lambda: not domain.domain.unready(), 20)
    wait_for("roll-out over", lambda: domain.settled("mn1"), 10)
    assert domain.session("mn1")["serving"] == new
    domain.scenario.radio.uplink("mn1", new)
    domain.scenario.radio.listen("mn1", {new})
    assert domain.drift() == []


@pytest.mark.parametrize("stage", FROZEN)
def test_kill_9_of_the_controller(domain: Running, stage: str) -> None:
    with domain.probing("mn1") as results:
        _, new, frozen = hold(domain, stage)
        domain.domain.kill(CONTROLLER)
        domain.domain.resume(frozen)
        time.sleep(0.5)
        domain.domain.restart(CONTROLLER)
        domain.domain.wait_ready()
        finish(domain, new)
    lossless(results)


@pytest.mark.parametrize("stage", FROZEN)
def test_kill_9_of_the_agent_that_is_waited_for(domain: Running, stage: str) -> None:
    with domain.probing("mn1") as results:
        _, new, frozen = hold(domain, stage)
        domain.domain.resume(frozen)
        domain.domain.kill(frozen)
        domain.domain.restart(frozen)
        finish(domain, new)
    lossless(results)


@pytest.mark.parametrize("who", ["old", "new", "br1", "tr1"])
def test_kill_9_of_any_agent_right_after_the_event(domain: Running, who: str) -> None:
    with domain.probing("mn1") as results:
        old = domain.session("mn1")["serving"]
        new = "ar2" if old == "ar1" else "ar1"
        victim = agent_name({"old": old, "new": new}.get(who, who))
        domain.scenario.radio.listen("mn1", {old, new})
        domain.scenario.attach("mn1", new, wait="durable")
        domain.domain.kill(victim)
        domain.domain.restart(victim)
        finish(domain, new)
    lossless(results)


def test_everything_killed_at_once_and_forwarding_goes_on(domain: Running) -> None:
    with domain.probing("mn1") as results:
        names = [CONTROLLER, *(agent_name(r.name) for r in domain.lab.topology.routers())]
        before = domain.extra_objects()
        for name in names:
            domain.domain.kill(name)
        time.sleep(1.0)
        assert domain.extra_objects() == before
        for name in names:
            domain.domain.restart(name)
        domain.domain.wait_ready()
        assert domain.drift() == []
    lossless(results)
