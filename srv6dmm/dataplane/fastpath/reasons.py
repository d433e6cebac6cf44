"""Why a packet was handled, left to the kernel or dropped: ebpf/lib/reasons.h, mirrored.

The numbers are append-only, the labels are names of metrics.
"""

from __future__ import annotations

from enum import IntEnum

LEFT_FROM, DROPPED_FROM = 4, 32
"""Below the first: handled. Below the second: left to the kernel. From there on: dropped."""
MAX_REASONS = 64


class Reason(IntEnum):
    """What a packet is counted under; exactly one each."""

    STEERED = 0
    DELIVERED = 1
    ENDPOINT = 2
    REDIRECTED = 3
    NOT_IP = 4
    NOT_OUR_PORT = 5
    NO_ENTRY = 6
    LOCAL_SCOPE = 7
    HOP_LIMIT = 8
    OVERSIZE = 9
    TRUNCATED = 10
    JUMBO = 11
    EXTENSIONS = 12
    FRAGMENT = 13
    BAD_SRH = 14
    SRH_TLV = 15
    SRH_FLAGS = 16
    SEGMENTS_LEFT = 17
    INNER = 18
    UNKNOWN_BEHAVIOR = 19
    NO_PATH = 20
    NOT_HERE = 21
    ADJUST_FAILED = 22
    REDIRECT_FAILED = 23
    IP_OPTIONS = 24
    NOT_IN_PLACE = 25
    OTHER_HOST = 26
    FLOW_RULES = 27
    HOP_DOWN = 28
    BAD_CHECKSUM = 29
    TO_SID_BLOCK = 32
    SOURCE_UNBOUND = 33
    NODE_LEFT = 34
    OUTER_SOURCE = 35
    ECN = 36
    STORE_FAILED = 37
    FLOW_DROP = 38
    STACKED_TAGS = 39
    SOURCE_INVALID = 40

    @property
    def label(self) -> str:
        """The name in metrics and documents."""
        return self.name.lower().replace("_", "-")

    @property
    def outcome(self) -> str:
        """`handled`, `kernel` or `dropped`."""
        if self < LEFT_FROM:
            return "handled"
        return "dropped" if self >= DROPPED_FROM else "kernel"
