"""Binding SIDs: one SID that stands for a policy's segment list (RFC 8402 section 5)."""

from __future__ import annotations

from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.policy_paths import PolicyPaths
from srv6dmm.model.plan import LocalSid
from srv6dmm.model.sid import Behavior


def binding_sids(router: str, book: FlowBook, choices: PolicyPaths) -> tuple[LocalSid, ...]:
    """Return the End.B6.Encaps SIDs of a head-end, by policy (RFC 8986 section 4.13).

    Of several lists by weight the first: Linux knows one list per SID. A policy without a valid
    path has no SID, so that packets to it are answered as unreachable.
    """
    return tuple(
        LocalSid(binding.sid, Behavior.END_B6_ENCAPS, segments=choice.lists[0].segments)
        for _, policy in sorted(book.policies.items())
        for binding in policy.binding_sids
        if binding.head_end == router
        for choice in (choices.choose(policy, book.policies, router, binding.endpoint),)
        if choice.lists
    )
