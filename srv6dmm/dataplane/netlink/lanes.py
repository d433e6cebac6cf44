"""Requests that do not depend on each other, over several sockets at once.

Linux 6.16 and later change IPv6 routes without its big lock, and Python lets go of its own while
a thread is in the kernel: two lanes take a bulk of routes in about two thirds of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from srv6dmm.dataplane.netlink.channel import Channel, Rejection


def execute(lanes: Sequence[Channel], requests: Sequence[bytes]) -> dict[int, Rejection]:
    """Carry requests out in any order; return index -> rejection, as `Channel.execute`."""
    share = -(-len(requests) // len(lanes))
    starts = range(0, len(requests), share)
    with ThreadPoolExecutor(max_workers=len(lanes), thread_name_prefix="netlink") as pool:
        parts = pool.map(
            lambda lane, start: lane.execute(requests[start : start + share]), lanes, starts
        )
        return {
            start + index: answer
            for start, part in zip(starts, parts, strict=True)
            for index, answer in part.items()
        }
