"""Staged roll-out: which routers a session's phase still waits for, and what comes next.

A session enters a phase by a committed revision. When every router the phase needs has
acknowledged it, the next phase is asked for. What the phases are is decided in core.mobility;
what a router's silence or refusal means is decided here:

* PREPARE: refusal, or silence for `prepare_timeout_s`, aborts; the old path was not touched.
* SWITCH, REDIRECT: the roll-out goes on after `switch_timeout_s`, degraded, and callers are told
  who is missing. The clean step waits until every router has acknowledged: who is behind in SWITCH
  is needed in REDIRECT too.

Callers of an event whose roll-out ends early are told when that is durable, never before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from srv6dmm.config import RolloutSettings
from srv6dmm.controller.hub import Hub
from srv6dmm.controller.tickets import Incomplete, Ticket, copy_result, finish, tell
from srv6dmm.core.outcomes import session_ended, superseded
from srv6dmm.core.planner import Planner
from srv6dmm.model.errors import Refusal
from srv6dmm.model.state import RolloutPhase, Session, SessionKey
from srv6dmm.model.wire import EntryFailure


@dataclass(slots=True)
class _Stage:
    """One session in one phase."""

    session: Session
    needs: dict[str, int]
    """Router -> revision it must have acknowledged."""
    keys: frozenset[str]
    timeout: asyncio.TimerHandle | None = None
    overdue: bool = False
    announced: bool = False
    ticket: Ticket | None = None
    awaiting: list[str] = field(default_factory=list)
    """Ids of the events that are applied when this is."""
    behind: Mapping[str, int] = field(default_factory=dict)
    """Those of `needs` that are not waited for with patience: head-ends that have not switched."""
    failed: bool = False
    """It is aborted as soon as that is durable."""
    overtaken: bool = False
    """Something that ends it is being made durable."""


Next = Callable[[Session], None]
Fail = Callable[[Session, Refusal], None]
Late = Callable[[Session, float], None]
"""(session, milliseconds since its event came)"""


class Rollouts:
    """Every session that is not yet where it should be."""

    def __init__(
        self,
        planner: Planner,
        hub: Hub,
        settings: RolloutSettings,
        durable: Callable[[], int],
    ) -> None:
        """`durable` returns the newest durable revision."""
        self._planner = planner
        self._hub = hub
        self._settings = settings
        self._durable = durable
        self._stages: dict[SessionKey, _Stage] = {}
        self._by_router: dict[str, set[SessionKey]] = {}
        self._closed = False
        self.on_acknowledged: Next = lambda session: None
        self.on_abort: Fail = lambda session, refusal: None
        self.on_degraded: Callable[[Session, list[str]], None] = lambda *_: None
        self.on_late: Late = lambda *_: None
        """Applied everywhere after all, when its caller had been told Incomplete."""
        hub.on_progress.append(self._progress)

    def enter(
        self,
        session: Session,
        ticket: Ticket | None = None,
        behind: Mapping[str, int] | None = None,
        awaiting: Iterable[str] = (),
    ) -> None:
        """Start waiting for the phase the session is in now, by what is durable now.

        A ticket of an older epoch is told that it was overtaken; one of the same epoch stays.
        `behind`: head-ends and the revision by which they will have switched, for REDIRECT.
        `awaiting`: events of an earlier life that are applied when this is.
        """
        if self._closed:
            return
        before = self._stages.get(session.key)
        waiting = list(awaiting) if ticket is None else [ticket.event_id]
        if before is not None:
            self._forget(before)
            if ticket is None or ticket is before.ticket:
                ticket = before.ticket
                if before.session.epoch == session.epoch:
                    waiting = before.awaiting
            elif before.ticket is not None:
                tell(before.ticket, superseded(session))
        if ticket is not None and ticket.epoch < session.epoch:
            tell(ticket, superseded(session))
            ticket = None
        if session.rollout is not RolloutPhase.REDIRECT:
            behind = {}
        elif behind is None:
            behind = before.behind if before and before.session.epoch == session.epoch else {}
        # What is announced beyond that may be withdrawn.
        durable = self._durable()
        needs = {r: min(self._hub.target(r), durable) for r in self._planner.waits_for(session)}
        stage = _Stage(
            session=session,
            needs={**behind, **needs},
            behind={router: behind[router] for router in behind.keys() - needs.keys()},
            keys=self._planner.keys(session),
            ticket=ticket,
            awaiting=waiting,
        )
        self._stages[session.key] = stage
        for router in stage.needs:
            self._by_router.setdefault(router, set()).add(session.key)
        preparing = session.rollout is RolloutPhase.PREPARE
        patience = (
            self._settings.prepare_timeout_s if preparing else self._settings.switch_timeout_s
        )
        loop = asyncio.get_running_loop()
        stage.timeout = loop.call_later(patience, self._timed_out, stage)
        loop.call_soon(self._check, stage)

    def join(self, key: SessionKey, ticket: Ticket | None) -> bool:
        """Have one more caller wait for what is waited for already, if anything is."""
        stage = self._stages.get(key)
        if stage is None:
            return False
        if ticket is None:
            return True
        if ticket.event_id not in stage.awaiting:
            stage.awaiting.append(ticket.event_id)
        if stage.announced:  # degraded: nobody is kept waiting for it
            tell(ticket, Incomplete(tuple(sorted(self._missing(stage)))))
        elif stage.ticket is None:
            stage.ticket = ticket
        else:
            stage.ticket.applied.add_done_callback(copy_result(ticket.applied))
        return True

    def gone(self, key: SessionKey) -> None:
        """Stop waiting for a session that exists no more."""
        stage = self._stages.get(key)
        if stage is None:
            return
        self._forget(stage)
        if stage.ticket is not None:
            tell(stage.ticket, session_ended(stage.session))

    def overtake(self, key: SessionKey) -> tuple[str, ...]:
        """Return the events that wait for a session's roll-out, about to be ended early.

        From now on it does not come to an end by itself: call `resume` if it is not ended.
        """
        stage = self._stages.get(key)
        if stage is None:
            return ()
        stage.overtaken = True
        return tuple(stage.awaiting)

    def resume(self, key: SessionKey) -> None:
        """Go on with what was overtaken by something that was not kept."""
        stage = self._stages.get(key)
        if stage is not None and stage.overtaken:
            stage.overtaken = False
            asyncio.get_running_loop().call_soon(self._check, stage)

    def refuse(self, key: SessionKey, epoch: int, refusal: Refusal) -> None:
        """Tell whoever waits for an epoch's roll-out why it ended early."""
        stage = self._stages.get(key)
        if stage is not None and stage.ticket is not None and stage.ticket.epoch == epoch:
            tell(stage.ticket, refusal)

    def pending(self, key: SessionKey) -> bool:
        """Tell whether a router has yet to acknowledge the session's present phase."""
        return key in self._stages

    def pending_routers(self, key: SessionKey) -> list[str]:
        """Return the routers the session's present phase still waits for."""
        stage = self._stages.get(key)
        return sorted(self._missing(stage)) if stage else []

    def failures(self, key: SessionKey) -> list[tuple[str, EntryFailure]]:
        """Return what routers refused of what the session's present phase asks of them."""
        stage = self._stages.get(key)
        if stage is None:
            return []
        return [
            (router, failure)
            for router, revision in sorted(stage.needs.items())
            if self._hub.has(router, revision)
            and (failure := self._hub.failure(router, stage.keys)) is not None
        ]

    def awaits(self, key: SessionKey, event_id: str) -> bool:
        """Tell whether an event is applied when the session's roll-out is."""
        stage = self._stages.get(key)
        return stage is not None and event_id in stage.awaiting

    def ticket(self, key: SessionKey) -> Ticket | None:
        """Return what callers of the session's newest event wait on."""
        stage = self._stages.get(key)
        return stage.ticket if stage else None

    def count(self) -> int:
        """Return how many sessions wait for routers."""
        return len(self._stages)

    def close(self) -> None:
        """Cancel every timeout; what is durable is taken up by the next start."""
        self._closed = True
        for stage in list(self._stages.values()):
            self._forget(stage)

    def _forget(self, stage: _Stage) -> None:
        if stage.timeout is not None:
            stage.timeout.cancel()
        if self._stages.get(stage.session.key) is stage:
            del self._stages[stage.session.key]
        for router in stage.needs:
            self._by_router.get(router, set()).discard(stage.session.key)

    def _missing(self, stage: _Stage) -> set[str]:
        return {
            router
            for router, revision in stage.needs.items()
            if not self._hub.has(router, revision)
            or self._hub.failure(router, stage.keys) is not None
        }

    def _progress(self, router: str) -> None:
        for key in list(self._by_router.get(router, ())):
            stage = self._stages.get(key)
            if stage is not None:
                self._check(stage)

    def _timed_out(self, stage: _Stage) -> None:
        stage.overdue = True
        self._check(stage)

    def _check(self, stage: _Stage) -> None:
        """Go on, give up or wait, by what the routers have said."""
        if self._stages.get(stage.session.key) is not stage or stage.failed or stage.overtaken:
            return
        missing = self._missing(stage)
        if stage.session.rollout is RolloutPhase.PREPARE:
            self._check_prepare(stage, missing)
            return
        waiting = {
            router
            for router in missing - stage.behind.keys()
            if not stage.overdue
            and not self._hub.lost(router)
            and not self._hub.has(router, stage.needs[router])
        }
        if waiting:
            return
        if not missing:
            self._forget(stage)
            self._go_on(stage)
        elif not stage.announced:
            stage.announced = True
            if missing - stage.behind.keys():
                self.on_degraded(stage.session, sorted(missing))
            if stage.session.rollout is RolloutPhase.SWITCH:
                self._forget(stage)
                stage.behind = {router: stage.needs[router] for router in missing}
                self._go_on(stage)
            elif stage.ticket is not None:
                tell(stage.ticket, Incomplete(tuple(sorted(missing))))

    def _check_prepare(self, stage: _Stage, missing: set[str]) -> None:
        session = stage.session
        if not missing:
            self._forget(stage)
            self._go_on(stage)
            return
        failure = self._hub.failure(session.serving, stage.keys)
        heard = self._hub.has(session.serving, stage.needs[session.serving])
        if failure is not None and heard:
            detail = (
                f"{session.serving} could not apply {failure.key!r}: {failure.reason}; "
                "the old path is untouched"
            )
            extra: dict[str, object] = {
                "router": session.serving,
                "failures": [
                    {"key": failure.key, "errno": failure.errno, "reason": failure.reason}
                ],
            }
        elif stage.overdue:
            detail = (
                f"{session.serving} did not acknowledge within "
                f"{self._settings.prepare_timeout_s:g} s; the old path is untouched; is its agent "
                "running?"
            )
            extra = {"router": session.serving, "failures": []}
        else:
            return
        stage.failed = True
        self.on_abort(session, Refusal("handover-aborted", detail, extra=extra))

    def _go_on(self, stage: _Stage) -> None:
        """Note the time of the stage; resolve the ticket after the last one."""
        ticket = stage.ticket
        session = stage.session
        if ticket is not None:
            ticket.timings.stages[session.rollout.value] = ticket.elapsed_ms()
        if session.rollout in (RolloutPhase.REDIRECT, RolloutPhase.STABLE):
            if ticket is not None:
                if ticket.applied.done() and ticket.timings.applied_ms is None:
                    ticket.timings.applied_ms = ticket.elapsed_ms()
                    self.on_late(session, ticket.timings.applied_ms)
                finish(ticket)
            self.on_acknowledged(session)
            return
        self._carry(stage)
        self.on_acknowledged(session)

    def _carry(self, stage: _Stage) -> None:
        """Keep the ticket, and who is behind, until the next phase is entered."""
        self._stages[stage.session.key] = _Stage(
            stage.session,
            {},
            frozenset(),
            ticket=stage.ticket,
            awaiting=stage.awaiting,
            behind=stage.behind,
        )
