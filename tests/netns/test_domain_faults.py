"""Kill -9 of every daemon at every stage of a roll-out, in the middle of traffic."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from srv6dmm.lab.domain import CONTROLLER, agent_name
from tests.netns.running import MODES, Running, forwarding, lossless, running, wait_for

pytestmark = [pytest.mark.root, pytest.mark.long]

FROZEN = {"prepare": "new", "switch": "br1", "redirect": "old"}
"""Stage -> the router whose silence holds the roll-out in it."""


IN_BOTH = ("switch",)
"""Stages that are tried in mode ebpf too: what a mode changes is an agent's affair."""


@pytest.fixture(scope="module")
def domain(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running("minimal.yaml", "flt", request.param) as up:
        up.home("mn1", "ar1")
        yield up


def in_modes(
    name: str, netlink: Iterable[str], ebpf: Iterable[str]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Parametrize a test by a mode and what is tried in that mode."""
    cases = [("netlink", case) for case in netlink] + [("ebpf", case) for case in ebpf]
    return pytest.mark.parametrize(("domain", name), cases, indirect=["domain"], scope="module")


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
    """Let the roll-out end and hold every kernel against its plan.

    The node sends to its new router as soon as that one lets it in: the old one does not for
    longer than late packets may take.
    """
    wait_for("the new router prepared", lambda: domain.session("mn1")["rollout"] != "prepare", 20)
    domain.scenario.radio.uplink("mn1", new)
    wait_for("every router ready", lambda: not domain.domain.unready(), 20)
    wait_for("roll-out over", lambda: domain.settled("mn1"), 10)
    assert domain.session("mn1")["serving"] == new
    domain.scenario.radio.listen("mn1", {new})
    assert domain.drift() == []


@in_modes("stage", FROZEN, IN_BOTH)
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


@in_modes("stage", FROZEN, IN_BOTH)
def test_kill_9_of_the_agent_that_is_waited_for(domain: Running, stage: str) -> None:
    with domain.probing("mn1") as results:
        _, new, frozen = hold(domain, stage)
        domain.domain.resume(frozen)
        domain.domain.kill(frozen)
        domain.domain.restart(frozen)
        finish(domain, new)
    lossless(results)


@in_modes("who", ("old", "new", "br1", "tr1"), ("new", "br1"))
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


@pytest.mark.parametrize("domain", MODES, indirect=True, scope="module")
def test_everything_killed_at_once_and_forwarding_goes_on(domain: Running) -> None:
    with forwarding(domain), domain.probing("mn1") as results:
        # Packets to the address the node has now are steered from here on.
        there = domain.session("mn1")["serving"]
        domain.scenario.soft_handover("mn1", "ar2" if there == "ar1" else "ar1")
        wait_for("roll-out over", lambda: domain.settled("mn1"), 10)
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
