"""Explanations as the API shows them."""

from __future__ import annotations

from typing import Any

from srv6dmm import codec
from srv6dmm.controller.explaining import Answer, Word
from srv6dmm.controller.live_probe import LiveWalk
from srv6dmm.controller.service import Controller
from srv6dmm.core.explain import ListMeaning, SegmentMeaning
from srv6dmm.core.fib_walk import Step, Walk
from srv6dmm.core.policy_paths import CandidateChoice


def explanation(controller: Controller, answer: Answer) -> dict[str, Any]:
    """Return an explanation as the API shows it; with `live` if a probe was sent."""
    found = answer.explanation
    choice = found.choice
    shown = {
        "packet": codec.to_builtins(found.packet),
        "mobile_node": found.session.mobile_node,
        "interface": found.session.interface,
        "serving": found.session.serving,
        "head_end": found.head_end,
        "rules": [
            {
                "name": verdict.rule.name,
                "priority": verdict.rule.priority,
                "policy": verdict.rule.policy,
                "matches": verdict.matches,
                "decides": verdict.decides,
                "reason": verdict.reason,
            }
            for verdict in found.rules
        ],
        "policy": found.policy,
        "fell_back": choice.fell_back if choice is not None else False,
        "candidates": [_candidate(one) for one in choice.candidates] if choice else [],
        "mode": found.mode.value,
        "lists": [_list(one) for one in found.lists],
        "walks": [_walk(controller, walk, answer) for walk in found.walks],
    }
    return shown if answer.live is None else {**shown, "live": _live(answer.live)}


def _candidate(choice: CandidateChoice) -> dict[str, Any]:
    return {
        "preference": choice.preference,
        "active": choice.active,
        "reason": choice.reason,
        "paths": [
            {
                "weight": one.weight,
                "routers": list(one.solution.path.routers) if one.solution else None,
                "segments": [str(sid) for sid in one.solution.segments] if one.solution else None,
                "igp_metric": one.solution.measures.igp_metric if one.solution else None,
                "te_metric": one.solution.measures.te_metric if one.solution else None,
                "delay_us": one.solution.measures.delay_us if one.solution else None,
                "mtu": one.solution.mtu if one.solution else None,
                "reason": one.reason,
            }
            for one in choice.lists
        ],
    }


def _list(one: ListMeaning) -> dict[str, Any]:
    header = one.header
    return {
        "weight": one.way.weight,
        "backup": one.backup,
        "segments": [
            _slot(meaning) | {"slots": [_slot(slot) for slot in meaning.slots]}
            for meaning in one.segments
        ],
        "inner_mtu": one.inner_mtu,
        "header": None
        if header is None
        else {
            "source": str(header.source),
            "destination": str(header.destination),
            "next_header": header.next_header,
            "srh": header.srh.hex(),
            "octets": header.octets,
        },
    }


def _slot(meaning: SegmentMeaning) -> dict[str, Any]:
    return {
        "sid": str(meaning.sid),
        "router": meaning.router,
        "behavior": meaning.behavior,
        "detail": meaning.detail,
    }


def _walk(controller: Controller, walk: Walk, answer: Answer) -> dict[str, Any]:
    found = answer.explanation
    counted = {
        traffic.router: (traffic.packets, traffic.octets)
        for binding in found.session.bindings
        if found.packet.destination in binding.prefix or found.packet.source in binding.prefix
        for traffic in controller.traffic(binding.prefix)
    }
    return {
        "outcome": walk.outcome.value,
        "detail": walk.detail,
        "hops": [
            {
                "router": hop.router,
                "arrives_by": hop.arrives_by,
                "leaves_by": hop.leaves_by,
                "applied": controller.applied(hop.router),
                "in_sync": answer.words[hop.router].in_sync,
                "reason": answer.words[hop.router].reason,
                "steps": [_step(step, answer.words[hop.router]) for step in hop.steps],
                "headers": [[str(sid) for sid in outer.segments] for outer in hop.headers],
                "prefix_packets": counted.get(hop.router, (None, None))[0],
                "prefix_bytes": counted.get(hop.router, (None, None))[1],
            }
            for hop in walk.hops
        ],
    }


def _step(step: Step, word: Word) -> dict[str, Any]:
    state = word.entries.get(step.key) if step.key is not None else None
    return {
        "action": step.action,
        "key": step.key,
        "state": state.state if state is not None else None,
        "found": list(state.found) if state is not None else [],
        "packets": state.packets if state is not None else None,
        "bytes": state.octets if state is not None else None,
        "errors": state.errors if state is not None else None,
    }


def _live(live: LiveWalk) -> dict[str, Any]:
    return {
        "router": live.router,
        "interface": live.interface,
        "token": live.token,
        "sent": live.sent,
        "reason": live.reason,
        "agrees": live.agrees,
        "difference": live.difference,
        "ending": live.ending,
        "routers": [passage.router for passage in live.passages],
        "hops": [
            {
                "router": passage.router,
                "seen": passage.seen,
                "arrives_by": passage.arrives_by,
                "leaves_by": passage.leaves_by,
                "at_us": passage.at_us,
                "headers": [[str(sid) for sid in segments] for segments in passage.headers],
            }
            for passage in live.passages
        ],
        "observations": [
            {
                "router": one.router,
                "interface": one.interface,
                "direction": "out" if one.outgoing else "in",
                "at_us": one.at_us,
                "hop_limit": one.hop_limit,
                "headers": [[str(sid) for sid in segments] for segments in one.headers],
            }
            for one in live.observations
        ],
        "answered_by": [str(address) for address in live.answered_by],
        "unwatched": [
            {"router": router, "reason": reason}
            for router, reason in sorted(live.unwatched.items())
        ],
    }
