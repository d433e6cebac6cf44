"""What changes of a domain in operation: rules, topology, which links work, what routers support.

Each change is made durable, planned, and told to the routers concerned; callers may wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from srv6dmm.config import DelaySettings
from srv6dmm.controller.acknowledgements import Acknowledgements
from srv6dmm.controller.clock import Clock
from srv6dmm.controller.csid_states import CsidStates
from srv6dmm.controller.feed import Feed
from srv6dmm.controller.hub import Hub
from srv6dmm.controller.ledger import Ledger, Published
from srv6dmm.controller.link_delays import LinkDelays
from srv6dmm.controller.link_states import LinkStates
from srv6dmm.controller.list_states import ListStates
from srv6dmm.controller.reroutes import Reroutes
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.planner import Planner
from srv6dmm.core.topology_document import digest
from srv6dmm.model.errors import Refusal
from srv6dmm.model.state import Change, Declared, SilentList, State
from srv6dmm.model.topology import Topology

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Changed:
    """A durable change of policies, flow rules, groups, or the topology.

    `applied`: milliseconds until every router concerned had acknowledged, or the Refusal that says
    which has not.
    """

    revision: int
    applied: asyncio.Future[float]


class Commit(Protocol):
    """Makes a change durable. Raises Refusal."""

    async def __call__(self, change: Change, *, published: Published) -> int: ...


def declared_topology(file: Topology, file_digest: str, state: State) -> Topology:
    """Return the topology as changed in operation; another file than then takes its place."""
    declared = state.declared
    if declared is not None and declared.file_digest == file_digest:
        return declared.topology
    return file


class Changes:
    """Changes of one domain. The planner it is given plans by them as soon as they are durable."""

    def __init__(
        self,
        file: Topology,
        planner: Planner,
        hub: Hub,
        ledger: Ledger,
        commit: Commit,
        clock: Clock,
        feed: Feed,
        patience_s: float,
        spawn: Callable[[Awaitable[None]], None],
        delay: DelaySettings,
    ) -> None:
        self._file, self._file_digest = file, digest(file)
        self._planner = planner
        self._hub = hub
        self._ledger = ledger
        self._commit = commit
        self._clock = clock
        self._feed = feed
        self._acknowledgements = Acknowledgements(hub, clock, patience_s)
        self._reroutes = Reroutes(hub, self._acknowledgements, clock, self._step, spawn)
        self._links = LinkStates(
            lambda: planner.topology, lambda: ledger.newest, self._change_links, clock, spawn
        )
        hub.on_links = self._links.take
        self._csid = CsidStates(planner, hub, lambda: ledger.newest, self._change_csid, spawn)
        self.delays = LinkDelays(
            delay, self._newest, hub.connected, self._change_links, clock, spawn
        )
        hub.on_delays = self.delays.take
        self._lists = ListStates(
            lambda: planner.choices.avoided,
            lambda: ledger.newest,
            self._change_links,
            clock,
            spawn,
        )
        hub.on_lists = self._lists.take

    def close(self) -> None:
        """Stop waiting for routers and links."""
        self._acknowledgements.close()
        self._links.close()
        self._csid.close()
        self.delays.close()
        self._lists.close()

    def start(self) -> None:
        """Wait for what the state says is out of use."""
        self._lists.start()

    async def rules(self, decide: Callable[[State], Change]) -> Changed:
        """Change policies, flow rules or groups, and tell routers what follows.

        `decide` gets the newest state and returns the change, or raises the Refusal that says why
        there is none.
        """
        started = self._clock.monotonic()
        change = decide(self._ledger.newest)
        told: list[asyncio.Future[float]] = []

        def published(revision: int) -> None:
            told.append(self._use_rules(revision, started))

        revision = await self._commit(change, published=published)
        return Changed(revision, told[0])

    def _use_rules(self, revision: int, started: float) -> asyncio.Future[float]:
        """Plan by the rules that are durable now; return who is waited for."""
        state = self._ledger.durable
        deltas = self._planner.use(FlowBook.of(state), state.sessions.values())
        for router, delta in deltas.items():
            self._hub.push(router, revision, delta)
        self._feed.add("rules", self._clock.now_ms(), revision=revision, routers=sorted(deltas))
        keys = {
            router: frozenset(entry.key for entry in put) for router, (put, _) in deltas.items()
        }
        return self._acknowledgements.wait(revision, keys, started)

    async def topology(self, decide: Callable[[Topology, State], Topology]) -> Changed:
        """Change what is declared of the domain, and move traffic without losing any.

        `decide` gets the newest topology and state and returns the topology wanted, or raises the
        Refusal that says why it cannot be. `applied` comes when the last round of routers has
        acknowledged, or was waited for in vain: the feed and the routers' status tell which.
        """
        current, newest = self._newest()
        wanted = decide(current, newest)
        told: list[asyncio.Future[float]] = []
        revision = await self._commit(
            Change(declared=self._declared(wanted, current)),
            published=lambda revision: told.append(self._reroute(revision)),
        )
        return Changed(revision, told[0])

    def _newest(self) -> tuple[Topology, State]:
        newest = self._ledger.newest
        return declared_topology(self._file, self._file_digest, newest), newest

    def _declared(self, wanted: Topology, current: Topology) -> Declared:
        return Declared(replace(wanted, revision=current.revision + 1), self._file_digest)

    async def _change_links(self, change: Change) -> bool:
        """Have links fail, come back, or take another time; tell whether it is durable."""
        if change.delays or change.delays_gone:
            current, _ = self._newest()
            change = replace(change, declared=self._declared(current, current))
        return await self._try(change, self._links_changed)

    def _links_changed(self, revision: int) -> None:
        self._reroute(revision)

    async def _change_csid(self, change: Change) -> asyncio.Future[float] | None:
        """Have routers join or leave compression; return when routers have all of it.

        None: the change is not durable.
        """
        told: list[asyncio.Future[float]] = []
        durable = await self._try(change, lambda revision: told.append(self._reroute(revision)))
        return told[0] if durable else None

    def _reroute(self, revision: int) -> asyncio.Future[float]:
        """Plan on the topology and the links that work now; return when routers have all of it."""
        state = self._ledger.durable
        compressing = self._planner.csid
        before, delays = self._planner.down, self._planner.delays
        silent, topology = self._planner.silent, self._planner.topology
        change = self._planner.reroute(
            declared_topology(self._file, self._file_digest, state),
            state.links_down,
            state.sessions.values(),
            state.csid.values(),
            state.delays,
            state.lists_silent,
        )
        if self._planner.csid != compressing:
            held = sorted(one.router for one in self._planner.csid if one.held)
            self._feed.add("compression", self._clock.now_ms(), revision=revision, routers=held)
        self._tell_lists(silent, state, revision)
        others = delays.items() ^ state.delays.items()
        if others:
            self._feed.add(
                "delays",
                self._clock.now_ms(),
                revision=revision,
                delays={str(end): state.delays.get(end) for end, _ in sorted(others, key=str)},
            )
        if (topology, before) != (self._planner.topology, self._planner.down):
            self._feed.add(
                "links",
                self._clock.now_ms(),
                revision=revision,
                down=sorted(map(str, state.links_down - before)),
                up=sorted(map(str, before - state.links_down)),
            )
        return self._reroutes.begin(revision, change, list(change.rounds))

    def _tell_lists(self, before: frozenset[SilentList], state: State, revision: int) -> None:
        """Add to the feed which lists answer no more, or are used again, by head-end."""
        for kind, lists in (
            ("lists-silent", state.lists_silent - before),
            ("lists-usable", before - state.lists_silent),
        ):
            for head_end in sorted({known.head_end for known in lists}):
                told = [
                    [str(sid) for sid in known.segments]
                    for known in lists
                    if known.head_end == head_end
                ]
                self._feed.add(
                    kind,
                    self._clock.now_ms(),
                    router=head_end,
                    lists=sorted(told),
                    revision=revision,
                )

    async def _step(self, published: Published) -> bool:
        """Take a revision of its own for something that routers are to be told."""
        return await self._try(Change(), published)

    async def _try(self, change: Change, published: Published) -> bool:
        try:
            await self._commit(change, published=published)
        except Refusal as refusal:
            log.warning("commit.refused", reason=refusal.detail)
            return False
        return True
