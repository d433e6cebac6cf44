"""Kill -9 at the ends of a session's life: the first attach, the clean step, detach and release."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from srv6dmm.lab.domain import CONTROLLER, agent_name
from tests.netns.running import Running, lossless, running, wait_for
from tests.netns.test_domain_faults import in_modes

pytestmark = [pytest.mark.root, pytest.mark.long]

VICTIMS = ("controller", "agent")
IN_EBPF = ("agent",)
"""What a mode changes is an agent's affair."""


@pytest.fixture(scope="module")
def domain(request: pytest.FixtureRequest) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SRV6DMM_MOBILITY__MIN_DELAY_BEFORE_DELETE_MS", "1500")
        environment.setenv("SRV6DMM_MOBILITY__LATE_PACKETS_MS", "500")
        with running("minimal.yaml", "lif", request.param) as up:
            yield up


def known(domain: Running) -> bool:
    return bool(domain.domain.client.get("/v1/mobile-nodes/mn1").status_code == 200)


def serving(domain: Running) -> str:
    """Have mn1 be somewhere, and all quiet; return where."""
    if not known(domain):
        domain.home("mn1", "ar1")
    wait_for("all quiet", lambda: domain.settled("mn1"))
    where: str = domain.session("mn1")["serving"]
    return where


def away(domain: Running) -> None:
    """Have mn1 be nowhere, and nothing of it left."""
    if known(domain):
        domain.scenario.detach("mn1", serving(domain), wait="applied")
        domain.scenario.radio.detach("mn1")
    nothing_left(domain)


def address(domain: Running) -> IPv6Address:
    """Return mn1's address of its present session: it keeps those of former ones for hours."""
    prefix = domain.session("mn1")["bindings"][-1]["prefix"]
    return domain.scenario.wait_address("mn1", prefix=prefix)


def nothing_left(domain: Running) -> None:
    wait_for("the session released", lambda: not known(domain), 20)
    wait_for("every router ready", lambda: not domain.domain.unready(), 20)
    assert domain.extra_objects() == []
    assert domain.drift() == []


def kill(domain: Running, victim: str, frozen: str) -> None:
    """Kill the controller, or the agent that is waited for; start it again."""
    if victim == "controller":
        domain.domain.kill(CONTROLLER)
        domain.domain.resume(frozen)
        domain.domain.restart(CONTROLLER)
    else:
        domain.domain.resume(frozen)
        domain.domain.kill(frozen)
        domain.domain.restart(frozen)
    domain.domain.wait_ready()


@in_modes("victim", VICTIMS, IN_EBPF)
def test_in_a_first_attach(domain: Running, victim: str) -> None:
    away(domain)
    frozen = agent_name("ar1")
    domain.scenario.radio.associate("mn1", "ar1")
    domain.domain.interrupt(frozen)
    try:
        domain.scenario.attach("mn1", "ar1", wait="durable")
        assert domain.session("mn1")["rollout"] == "prepare"
    finally:
        kill(domain, victim, frozen)
    wait_for("all quiet", lambda: domain.settled("mn1"), 20)
    assert domain.session("mn1")["serving"] == "ar1"
    with domain.probing("mn1", address=address(domain)) as results:
        assert domain.drift() == []
    lossless(results)


@in_modes("victim", VICTIMS, IN_EBPF)
def test_in_the_clean_step(domain: Running, victim: str) -> None:
    """The old router has yet to forget; nobody sends to it any more."""
    old = serving(domain)
    new = "ar2" if old == "ar1" else "ar1"
    frozen = agent_name(old)
    with domain.probing("mn1", address=address(domain)) as results:
        domain.scenario.radio.listen("mn1", {old, new})
        domain.scenario.attach("mn1", new)
        domain.domain.interrupt(frozen)
        try:
            domain.scenario.radio.uplink("mn1", new)
            wait_for("the clean step", lambda: domain.session("mn1")["rollout"] == "stable", 5)
            assert any(line.startswith(old) for line in domain.domain.unready())
            assert any(line.startswith(f"{old}:") for line in domain.extra_objects())
        finally:
            kill(domain, victim, frozen)
        domain.scenario.radio.listen("mn1", {new})
        wait_for("all quiet", lambda: domain.settled("mn1"), 20)
        assert domain.drift() == []
    lossless(results)


@in_modes("victim", VICTIMS, ())
def test_in_the_wait_after_a_detach(domain: Running, victim: str) -> None:
    where = serving(domain)
    frozen = agent_name(where)
    domain.domain.interrupt(frozen)
    try:
        domain.scenario.detach("mn1", where)
        domain.scenario.radio.detach("mn1")
        session = domain.session("mn1")
        assert (session["phase"], session["pending"]) == ("detach-wait", [where])
    finally:
        kill(domain, victim, frozen)
    nothing_left(domain)


@in_modes("victim", VICTIMS, IN_EBPF)
def test_in_a_release(domain: Running, victim: str) -> None:
    """The session is gone, and its router has not heard of it."""
    where = serving(domain)
    frozen = agent_name(where)
    domain.scenario.detach("mn1", where, wait="applied")
    domain.scenario.radio.detach("mn1")
    domain.domain.interrupt(frozen)
    try:
        wait_for("the session released", lambda: not known(domain), 5)
        assert any(line.startswith(where) for line in domain.extra_objects())
    finally:
        kill(domain, victim, frozen)
    nothing_left(domain)
