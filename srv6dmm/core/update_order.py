"""In which order routers take new routes, so that no packet runs in a circle meanwhile.

A round is a set of routers that may change in any order, while others hold what they held before:
whatever mixture of old and new next hops there is at an instant, following it never leads back
(ordered FIB updates as in RFC 6976, for whole routers and any change of the topology).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

NextHops = Mapping[str, Mapping[str, str]]
"""Destination -> router -> the router it sends packets on to. One that delivers them, drops them
or leads them by a tunnel has none."""


NextHop = Callable[[str, str], str | None]
"""(router, destination) -> the router it sends packets on to, if it does."""


def update_rounds(before: NextHops, after: NextHops) -> list[frozenset[str]]:
    """Return the routers whose next hops change, in rounds.

    Where no order is free of circles, the last round holds all that is left.
    """
    changed: dict[str, list[str]] = {}
    for destination in sorted(before.keys() | after.keys()):
        old, new = before.get(destination, {}), after.get(destination, {})
        for router in sorted(old.keys() | new.keys()):
            if old.get(router) != new.get(router):
                changed.setdefault(router, []).append(destination)
    return ordered_rounds(
        changed,
        lambda router, destination: before.get(destination, {}).get(router),
        lambda router, destination: after.get(destination, {}).get(router),
    )


def ordered_rounds(
    changed: Mapping[str, Sequence[str]], before: NextHop, after: NextHop
) -> list[frozenset[str]]:
    """Return the routers of `changed` in rounds: router -> where it is to send otherwise."""
    left = sorted(changed)
    done: set[str] = set()
    rounds: list[frozenset[str]] = []
    while left:
        together: set[str] = set()
        for router in left:
            together.add(router)
            if any(_returns(router, to, before, after, done, together) for to in changed[router]):
                together.remove(router)
        if not together:
            together = set(left)
        rounds.append(frozenset(together))
        done |= together
        left = [router for router in left if router not in together]
    return rounds


def _returns(
    start: str,
    destination: str,
    before: NextHop,
    after: NextHop,
    done: set[str],
    changing: set[str],
) -> bool:
    """Tell whether some mixture of next hops leads from a router back to it."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        router = todo.pop()
        ways = []
        if router not in done:
            ways.append(before(router, destination))
        if router in done or router in changing:
            ways.append(after(router, destination))
        for following in ways:
            if following == start:
                return True
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    return False
