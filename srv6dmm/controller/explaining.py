"""Explanations with the routers' own word: what their kernels hold, and where a probe went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from srv6dmm.controller.clock import Clock
from srv6dmm.controller.hub import Hub
from srv6dmm.controller.live_probe import LiveProbes, LiveWalk
from srv6dmm.core.explain import Explainer, Explanation, Question
from srv6dmm.core.fib_walk import FibWalk
from srv6dmm.core.live_walk import entrance
from srv6dmm.core.marked_packet import unfit
from srv6dmm.core.planner import Planner
from srv6dmm.model.errors import Refusal
from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.state import State
from srv6dmm.model.wire import EntryState, Inspection

INSPECT_S = 1.0
"""How long routers have to read back: all of them at once."""
_SYNC = {"present": True, "different": False, "missing": False, "unread": None}


@dataclass(frozen=True, slots=True)
class Word:
    """What a router says of the entries that a packet meets there."""

    in_sync: bool | None
    """Whether plan, applied plan, kernel and fast path are one; None: it is not known."""
    reason: str | None
    """Why not."""
    entries: Mapping[str, EntryState]
    """By key; empty when the router was not heard."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An explanation and the word of every router on the way."""

    explanation: Explanation
    words: Mapping[str, Word]
    live: LiveWalk | None = None


class Explaining:
    """Answers questions about the state as it is now."""

    def __init__(
        self,
        planner: Planner,
        hub: Hub,
        state: Callable[[], State],
        clock: Clock,
        token: Callable[[], bytes],
    ) -> None:
        """`token` returns eight random octets, those of a live probe."""
        self._planner = planner
        self._hub = hub
        self._state = state
        self._probes = LiveProbes(hub, clock, token)

    async def answer(self, question: Question) -> Answer:
        """Explain, and ask every router on the way what it holds. Raises Refusal."""
        found, plans = self._explain(question)
        return Answer(found, await self._words(_wanted(found, plans)))

    async def probe(self, question: Question) -> Answer:
        """As `answer`, and send a marked packet of that kind. Raises Refusal."""
        found, plans = self._explain(question)
        fault = unfit(found.packet)
        if fault is not None:
            raise Refusal("validation", f"body: {fault}", 422)
        # Links as they are declared: a packet that crosses a dead one is worth telling of.
        far_end = FibWalk(self._planner.topology, lambda router: ()).far_end
        way = entrance(self._plan(found.head_end, plans).values(), found.packet)
        asked = _wanted(found, plans)
        before, live = await asyncio.gather(
            self._words(asked),
            self._probes.run(found.head_end, way, found.packet, found.walks, far_end),
        )
        # Counters as they are now; what was not in sync when the probe came by is told of.
        in_sync = {name for name, word in before.items() if word.in_sync}
        after = await self._words({name: asked[name] for name in in_sync})
        return Answer(found, {**before, **after}, live)

    def _explain(self, question: Question) -> tuple[Explanation, dict[str, dict[str, PlanEntry]]]:
        plans: dict[str, dict[str, PlanEntry]] = {}
        explainer = Explainer(
            self._planner, self._state(), lambda router: self._plan(router, plans).values()
        )
        return explainer.explain(question), plans

    def _plan(self, router: str, plans: dict[str, dict[str, PlanEntry]]) -> dict[str, PlanEntry]:
        plan = plans.get(router)
        if plan is None:
            plan = plans[router] = self._planner.plan(router, self._state()).entries
        return plan

    async def _words(self, asked: Mapping[str, Mapping[str, PlanEntry]]) -> dict[str, Word]:
        words = await asyncio.gather(*(self._word(r, entries) for r, entries in asked.items()))
        return dict(zip(asked, words, strict=True))

    async def _word(self, router: str, entries: Mapping[str, PlanEntry]) -> Word:
        try:
            told = await self._hub.questions(router).inspect(list(entries.values()), INSPECT_S)
        except Refusal as refusal:
            return Word(None, refusal.detail, {})
        except TimeoutError:
            return Word(None, f"the agent of {router} did not answer within {INSPECT_S:g} s", {})
        in_sync, reason = self._judged(router, told)
        return Word(in_sync, reason, {state.key: state for state in told.entries})

    def _judged(self, router: str, told: Inspection) -> tuple[bool | None, str | None]:
        target = self._hub.target(router)
        if not self._hub.has(router, target):
            return False, f"it has applied revision {told.revision}, and not yet {target}"
        verdict: tuple[bool | None, str | None] = (True, None)
        for state in told.entries:
            if not state.planned:
                return False, f"the plan it has applied says something else of {state.key!r}"
            in_sync = _SYNC[state.state]
            if in_sync is False:
                return False, f"{state.key}: {'; '.join(state.found)}"
            if in_sync is None:
                verdict = None, f"{state.key}: {'; '.join(state.found)}"
        return verdict


def _wanted(
    found: Explanation, plans: Mapping[str, Mapping[str, PlanEntry]]
) -> dict[str, dict[str, PlanEntry]]:
    """Return what a packet meets: by router and key, in the order of its way."""
    wanted: dict[str, dict[str, PlanEntry]] = {}
    for walk in found.walks:
        for hop in walk.hops:
            known, plan = wanted.setdefault(hop.router, {}), plans[hop.router]
            keys = (step.key for step in hop.steps if step.key is not None)
            known.update((key, plan[key]) for key in keys if key in plan)
    return wanted
