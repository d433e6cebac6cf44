"""Why no path satisfies what is asked for: the element that stands in the way, by name.

One element is left out after the other. Where one is enough to have a path, it is named with what
the path then comes to; else the kinds of elements that have to go together are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from srv6dmm.core.computation import PathComputation
from srv6dmm.core.graph import NoPath
from srv6dmm.core.link_weights import exclusions
from srv6dmm.core.segments import NoSegmentList
from srv6dmm.model.path import Solution
from srv6dmm.model.policy import Constraints, DynamicPath

_NAMED = 4
"""Elements that are named at most."""
_NONE = Constraints()


def why_no_path(
    computation: PathComputation, head_end: str, endpoint: str, wanted: DynamicPath
) -> str | None:
    """Return what stands in the way of a path between two routers; None: nothing that is known.

    Raises TooHard as searches do.
    """
    unreachable = _unreachable(computation, head_end, wanted)
    if unreachable is not None:
        return unreachable
    if _solved(computation, head_end, endpoint, DynamicPath(wanted.objective)) is None:
        return f"there is no path from {head_end} to {endpoint}, whatever is asked for"
    found: list[str] = []
    for name, relaxed in (*_elements(wanted), *_waypoints(wanted)):
        solution = _solved(computation, head_end, endpoint, relaxed)
        if solution is not None:
            found.append(name + _instead(name, solution))
        if len(found) == _NAMED:
            break
    if found:
        return f"there is a path without {', or without '.join(found)}"
    for name, relaxed in _kinds(wanted):
        if _solved(computation, head_end, endpoint, relaxed) is not None:
            return f"there is a path without {name}"
    return None


def _unreachable(computation: PathComputation, head_end: str, wanted: DynamicPath) -> str | None:
    """Name a router or SRLG that must be passed and cannot be reached over the links allowed."""
    constraints = wanted.constraints
    allowed = DynamicPath(
        wanted.objective,
        replace(
            constraints,
            require_routers=frozenset(),
            require_links=frozenset(),
            require_srlgs=frozenset(),
            maximum_delay_us=None,
            maximum_hops=None,
            maximum_segments=None,
        ),
    )
    stops = [(f"waypoints[{n}]", stop.router) for n, stop in enumerate(wanted.waypoints)]
    stops += [("require_routers", name) for name in sorted(constraints.require_routers)]
    for key, name in stops:
        if computation.reaches(head_end, name, allowed):
            continue
        if not computation.reaches(head_end, name, DynamicPath()):
            return f"{key}: {name} cannot be reached from {head_end}"
        blocking = [
            element
            for element, relaxed in _elements(allowed)
            if computation.reaches(head_end, name, relaxed)
        ]
        hint = f"; it can without {', or without '.join(blocking[:_NAMED])}" if blocking else ""
        return f"{key}: {name} cannot be reached from {head_end} over the links allowed{hint}"
    graph = computation.paths.graph
    excluded = set[int]().union(
        *(g for _, g in exclusions(graph, constraints, computation.link_mtu(constraints)))
    )
    for srlg in sorted(constraints.require_srlgs):
        if graph.by_srlg.get(srlg, set()) <= excluded:
            return f"require_srlgs: every link in SRLG {srlg} is excluded by the other constraints"
    return None


def _elements(wanted: DynamicPath) -> Iterator[tuple[str, DynamicPath]]:
    """Yield (element, the same without it) of the constraints."""
    constraints = wanted.constraints
    for field in fields(constraints):
        value = getattr(constraints, field.name)
        if value == getattr(_NONE, field.name):
            continue
        if not isinstance(value, frozenset):
            name = f"{field.name} {value}"
            yield name, _with(wanted, **{field.name: None})
        elif field.name == "include_any":  # one of it is enough: less of it asks for more
            name = f"{field.name} {', '.join(sorted(value))}"
            yield name, _with(wanted, include_any=frozenset())
        else:
            for element in sorted(value, key=str):
                yield f"{field.name} {element}", _with(wanted, **{field.name: value - {element}})


def _waypoints(wanted: DynamicPath) -> Iterator[tuple[str, DynamicPath]]:
    for number, waypoint in enumerate(wanted.waypoints):
        others = (*wanted.waypoints[:number], *wanted.waypoints[number + 1 :])
        yield f"waypoints[{number}] {waypoint.router}", replace(wanted, waypoints=others)


def _kinds(wanted: DynamicPath) -> Iterator[tuple[str, DynamicPath]]:
    """Yield (what, the same without all of it), then without all but one kind."""
    used = [
        field.name
        for field in fields(wanted.constraints)
        if getattr(wanted.constraints, field.name) != getattr(_NONE, field.name)
    ]
    for name in used:
        yield f"all of {name}", _with(wanted, **{name: getattr(_NONE, name)})
    if wanted.waypoints:
        yield "any waypoint", replace(wanted, waypoints=())
    for name in used:
        only = replace(_NONE, **{name: getattr(wanted.constraints, name)})
        others = [other for other in used if other != name]
        yield " and ".join(others), replace(wanted, constraints=only)
    yield " and ".join(used), replace(wanted, constraints=_NONE)


def _with(wanted: DynamicPath, **changed: object) -> DynamicPath:
    return replace(wanted, constraints=replace(wanted.constraints, **changed))  # type: ignore[arg-type]


def _solved(
    computation: PathComputation, head_end: str, endpoint: str, wanted: DynamicPath
) -> Solution | None:
    try:
        return computation.solve(head_end, endpoint, wanted)
    except (NoPath, NoSegmentList):
        return None


def _instead(name: str, solution: Solution) -> str:
    """Say what a path comes to in what was left out, where that is a number."""
    match name.partition(" ")[0]:
        case "maximum_delay_us":
            return f" (it takes {solution.measures.delay_us} us)"
        case "maximum_hops":
            return f" (it has {solution.measures.hops} links)"
        case "minimum_mtu":
            return f" (it carries {solution.mtu} bytes)"
        case "maximum_segments":
            return f" (it needs {len(solution.segments)} segments)"
        case _:
            return ""
