"""Requests that do not depend on each other, over several sockets at once.

Linux 6.16 and later change IPv6 routes without its big lock, and Python lets go of its own while
a thread is in the kernel: one lane encodes while the other's requests are carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from srv6dmm.dataplane.netlink.channel import BATCH, Channel, Rejection

Item = TypeVar("Item")


def execute(
    lanes: Sequence[Channel], items: Sequence[Item], encode: Callable[[Item], bytes]
) -> dict[int, Rejection]:
    """Encode items and carry them out in any order; return index -> rejection.

    What `encode` raises is raised; how many items were carried out by then is not known.
    """
    share = -(-len(items) // len(lanes))

    def work(lane: Channel, first: int) -> dict[int, Rejection]:
        rejected: dict[int, Rejection] = {}
        last = min(first + share, len(items))
        for start in range(first, last, BATCH):
            answers = lane.execute(list(map(encode, items[start : min(start + BATCH, last)])))
            rejected.update((start + index, answer) for index, answer in answers.items())
        return rejected

    with ThreadPoolExecutor(max_workers=len(lanes), thread_name_prefix="netlink") as pool:
        parts = pool.map(work, lanes, range(0, len(items), share))
        return {index: answer for part in parts for index, answer in part.items()}
