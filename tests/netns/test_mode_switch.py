"""The mode of running agents changed under traffic: nothing is lost, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from srv6dmm.dataplane.fastpath import pins
from srv6dmm.lab.domain import agent_name
from tests.netns.moved import moved, programs, steered_traffic, traces
from tests.netns.running import Running, forwarding, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def campus() -> Iterator[Running]:
    with moved("mod", "ebpf") as up:
        yield up


def put(campus: Running, router: str, mode: str) -> httpx.Response:
    """Have a router change over; return the answer."""
    return campus.domain.client.put(f"/v1/routers/{router}/mode", json={"mode": mode})


def change_over(campus: Running, router: str, mode: str) -> None:
    """Have a router change over; assert that it says and shows so."""
    answer = put(campus, router, mode)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"router": router, "mode": mode}
    assert campus.domain.get(f"/v1/routers/{router}")["mode"] == mode


def names(campus: Running) -> list[str]:
    """Return the names of all routers."""
    return [router.name for router in campus.lab.topology.routers()]


def life(campus: Running, router: str) -> str:
    """Return what tells one run of a router's agent from the next."""
    return str(campus.domain.get(f"/v1/routers/{router}")["boot_id"])


@contextmanager
def in_netlink(campus: Running) -> Iterator[None]:
    """Tell `forwarding` that no program is to forward anything within the block."""
    campus.domain.mode = "netlink"
    try:
        yield
    finally:
        campus.domain.mode = "ebpf"


def test_every_router_there_and_back_under_traffic(campus: Running) -> None:
    """One after the other, twice, by the agents that run: none is started anew."""
    lives = {router: life(campus, router) for router in names(campus)}
    with steered_traffic(campus):
        for _ in range(2):
            assert len(traces(campus)) > 16
            for router in names(campus):
                change_over(campus, router, "netlink")
                assert programs(campus, router) == {}
            assert traces(campus) == []
            assert campus.drift() == []
            with in_netlink(campus), forwarding(campus):
                campus.scenario.soft_handover("mn2", "ar1")  # plans are taken in either mode
            for router in names(campus):
                change_over(campus, router, "ebpf")
                assert len(programs(campus, router)) >= 2
            assert campus.drift() == []
            with forwarding(campus, at_least=200):
                campus.scenario.soft_handover("mn2", "ar4")
                enough = campus.handled() + 200
                wait_for("packets", lambda enough=enough: campus.handled() > enough)
    assert {router: life(campus, router) for router in names(campus)} == lives
    assert campus.drift() == []


def test_counts_come_and_go_with_the_fast_path(campus: Running) -> None:
    def counted() -> bool:
        return bool(campus.domain.get("/v1/routers/br1")["fast_path"])

    with steered_traffic(campus):
        wait_for("counts", counted)
        change_over(campus, "br1", "netlink")
        assert not counted()
        change_over(campus, "br1", "ebpf")
        wait_for("counts again", counted)


def test_the_mode_that_is_in_effect_is_no_change(campus: Running) -> None:
    before = programs(campus, "ar3")
    with forwarding(campus), steered_traffic(campus):
        change_over(campus, "ar3", "ebpf")
    assert programs(campus, "ar3") == before


def test_a_router_that_cannot_says_why_and_leaves_nothing(campus: Running) -> None:
    """Something of that name is in the way of a pin."""
    place = pins.directory(campus.lab.namespace("br1"))
    with steered_traffic(campus):
        change_over(campus, "br1", "netlink")
        (place / "prog_sid" / "in-the-way").mkdir(parents=True)
        answer = put(campus, "br1", "ebpf")
        assert answer.status_code == 409, answer.text
        assert answer.json()["type"] == "urn:srv6dmm:problem:mode-unavailable"
        assert "prog_sid" in answer.json()["detail"]
        assert campus.domain.get("/v1/routers/br1")["mode"] == "netlink"
        assert not place.parent.exists()
        assert campus.drift() == []
        change_over(campus, "br1", "ebpf")
    assert campus.drift() == []


def killed_on_the_way(campus: Running, router: str, mode: str, begun: Callable[[], bool]) -> bool:
    """Kill a router's agent once a change has begun; tell whether it was not over by then."""
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(put(campus, router, mode)))
    asking.start()
    deadline = time.monotonic() + 10
    while not begun():  # without a pause: the whole change takes milliseconds
        assert time.monotonic() < deadline, f"{router} never began to change over to {mode}"
    campus.domain.kill(agent_name(router))
    asking.join()
    assert answers[0].status_code in (200, 409), answers[0].text
    return answers[0].status_code == 409


@pytest.mark.parametrize("instant", ["first", "half"])
@pytest.mark.parametrize("mode", ["netlink", "ebpf"])
def test_an_agent_killed_while_it_changes_over(campus: Running, mode: str, instant: str) -> None:
    """At several instants; the agent that comes back is in the mode it is started in."""
    router = "br1"
    everything = len(programs(campus, router))
    assert everything >= 3
    place = pins.directory(campus.lab.namespace(router))

    def begun() -> bool:
        if mode == "ebpf" and instant == "first":
            return place.exists()
        there = len(programs(campus, router))
        done = everything - there if mode == "netlink" else there
        return done >= (1 if instant == "first" else everything // 2)

    with steered_traffic(campus):
        for _ in range(10):
            if mode == "ebpf":
                change_over(campus, router, "netlink")
            on_the_way = killed_on_the_way(campus, router, mode, begun)
            campus.domain.restart(agent_name(router))
            campus.domain.wait_ready()
            assert campus.domain.get(f"/v1/routers/{router}")["mode"] == "ebpf"
            assert len(programs(campus, router)) == everything
            assert campus.drift() == []
            if on_the_way:
                break
        else:
            pytest.fail("every change was over before the kill")
    assert not [path.name for path in place.iterdir() if path.name.startswith("fresh")]
