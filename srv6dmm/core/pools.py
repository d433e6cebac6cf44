"""Prefix pools: which /64 of an access router's pools a session gets."""

from __future__ import annotations

from ipaddress import IPv6Network

from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import BindingStatus
from srv6dmm.model.state import Lease, LeaseState, SessionKey, State
from srv6dmm.model.topology import Node

PREFIX_LENGTH = 64
"""Mobile prefixes are /64s: SLAAC works with no other length (RFC 4862 section 5.5.3)."""


def pool_size(router: Node) -> int:
    """Return how many mobile prefixes the router's pools hold."""
    return sum(1 << (PREFIX_LENGTH - pool.prefixlen) for pool in router.pools)


def _prefix_at(router: Node, index: int) -> IPv6Network:
    for pool in router.pools:
        size = 1 << (PREFIX_LENGTH - pool.prefixlen)
        if index < size:
            base = int(pool.network_address) + (index << (128 - PREFIX_LENGTH))
            return IPv6Network((base, PREFIX_LENGTH))
        index -= size
    raise IndexError(index)


def take_prefix(state: State, router: Node, holder: SessionKey) -> Lease:
    """Return a lease of a free prefix of the router's pools.

    The search starts at the number of prefixes held, so that it is short and a prefix that was
    just given back is the last to be given out. Raises Refusal `prefix-pool-exhausted` (status
    130 of RFC 6275) when every prefix is leased or quarantined.
    """
    size = pool_size(router)
    held = state.held.get(router.name, 0)
    if held < size:
        for step in range(size):
            prefix = _prefix_at(router, (held + step) % size)
            if prefix not in state.leases:
                return Lease(prefix, router.name, LeaseState.LEASED, holder)
    raise Refusal(
        "prefix-pool-exhausted",
        f"all {size} prefixes of {router.name} are leased or in quarantine; "
        "enlarge its pool in the topology or shorten mobility.valid_lifetime_s",
        status=409,
        binding_status=BindingStatus.INSUFFICIENT_RESOURCES,
    )
