"""Orders of route changes: no mixture of old and new routes on the way leads in a circle."""

from __future__ import annotations

import random
from itertools import combinations

import networkx
from hypothesis import given, settings
from hypothesis import strategies as st

from srv6dmm.core.update_order import NextHops, update_rounds


def routes(graph: networkx.Graph) -> NextHops:
    """Return next hops along shortest paths; of several the first by name."""
    found: dict[str, dict[str, str]] = {}
    for target in graph:
        distance = networkx.single_source_dijkstra_path_length(graph, target)
        found[target] = {
            router: min(
                other
                for other in graph[router]
                if distance.get(other, 1e9) + graph[router][other]["weight"] == distance[router]
            )
            for router in distance
            if router != target
        }
    return found


@st.composite
def changes(draw: st.DrawFn) -> tuple[networkx.Graph, networkx.Graph]:
    """Draw a connected graph, and the same one with one link drained or gone."""
    size = draw(st.integers(3, 14))
    rng = random.Random(draw(st.integers(0, 1 << 30)))
    names = [f"r{number:02}" for number in range(size)]
    graph = networkx.Graph()
    for number, name in enumerate(names[1:], 1):
        graph.add_edge(name, rng.choice(names[:number]), weight=rng.randint(1, 9))
    for _ in range(draw(st.integers(1, 2 * size))):
        one, other = rng.sample(names, 2)
        graph.add_edge(one, other, weight=rng.randint(1, 9))
    changed = graph.copy()
    link = rng.choice(sorted(graph.edges))
    match draw(st.sampled_from(["drain", "remove", "cheaper"])):
        case "drain":
            changed.edges[link]["weight"] = 1000
        case "cheaper":
            changed.edges[link]["weight"] = 1
        case _:
            changed.remove_edge(*link)
    return graph, changed


def circle(hops: dict[str, str], start: str) -> bool:
    seen: set[str] = set()
    router: str | None = start
    while router is not None:
        if router in seen:
            return True
        seen.add(router)
        router = hops.get(router)
    return False


@settings(deadline=None, max_examples=200)
@given(changes(), st.randoms())
def test_no_mixture_leads_in_a_circle(
    graphs: tuple[networkx.Graph, networkx.Graph], rng: random.Random
) -> None:
    before, after = map(routes, graphs)
    rounds = update_rounds(before, after)
    assert not any(one & other for one, other in combinations(rounds, 2))
    held = {target: dict(hops) for target, hops in before.items()}
    for together in rounds:
        order = sorted(together)
        rng.shuffle(order)
        for router in order:
            for target, hops in held.items():
                hops.pop(router, None)
                if router in after.get(target, {}):
                    hops[router] = after[target][router]
            for target, hops in held.items():
                for start in hops:
                    assert not circle(hops, start), (target, start)
    assert held == after


def test_nothing_to_do_takes_no_round() -> None:
    hops = {"a": {"b": "a"}}
    assert update_rounds(hops, hops) == []


def test_what_no_order_saves_is_done_at_once() -> None:
    """Two destinations whose changes want opposite orders."""
    before = {"x": {"a": "x", "b": "a"}, "y": {"a": "b", "b": "y"}}
    after = {"x": {"a": "b", "b": "x"}, "y": {"a": "y", "b": "a"}}
    assert update_rounds(before, after) == [frozenset({"a", "b"})]


def test_who_is_farthest_from_a_dead_link_changes_first() -> None:
    """a - b - c - d, and a spare way from a to d: packets to d turn round at b and c."""
    before = {"d": {"a": "b", "b": "c", "c": "d"}}
    after = {"d": {"a": "d", "b": "a", "c": "b"}}
    assert update_rounds(before, after) == [
        frozenset({"a"}),
        frozenset({"b"}),
        frozenset({"c"}),
    ]
