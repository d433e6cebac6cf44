"""`ip sr tunsrc` by generic netlink (family SEG6)."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import U16, attribute, attributes, message, number
from srv6dmm.dataplane.netlink.channel import Channel, Rejection

_GENL = struct.Struct("=BBH")
"""struct genlmsghdr: command, version, reserved."""


class TunnelSourceControl:
    """Sets and reads the source address of the encapsulations of one namespace."""

    def __init__(self) -> None:
        self._channel = Channel(n.NETLINK_GENERIC)
        self._family: int | None = None

    def close(self) -> None:
        """Close the socket."""
        self._channel.close()

    def set(self, address: IPv6Address) -> Rejection | None:
        """Set the source; None when it is done."""
        family = self._resolve()
        if isinstance(family, Rejection):
            return family
        body = _GENL.pack(n.SEG6_CMD_SET_TUNSRC, 1, 0) + attribute(n.SEG6_ATTR_DST, address.packed)
        return self._channel.execute([message(family, n.NLM_F_REQUEST, body)]).get(0)

    def get(self) -> IPv6Address | None:
        """Return the source; None when there is none, or the kernel has no seg6."""
        family = self._resolve()
        if isinstance(family, Rejection):
            return None
        body = _GENL.pack(n.SEG6_CMD_GET_TUNSRC, 1, 0)
        answer = self._channel.ask(message(family, n.NLM_F_REQUEST, body))
        if isinstance(answer, Rejection):
            return None
        _, datagram, start, end = answer
        packed = attributes(datagram, start + _GENL.size, end).get(n.SEG6_ATTR_DST, bytes(16))
        return IPv6Address(packed) if any(packed) else None

    def _resolve(self) -> int | Rejection:
        """Return the number the kernel gave to the family SEG6."""
        if self._family is None:
            body = _GENL.pack(n.CTRL_CMD_GETFAMILY, 1, 0)
            body += attribute(n.CTRL_ATTR_FAMILY_NAME, b"SEG6\0")
            answer = self._channel.ask(message(n.GENL_ID_CTRL, n.NLM_F_REQUEST, body))
            if isinstance(answer, Rejection):
                return Rejection(
                    answer.errno,
                    "this kernel has no seg6 (no generic netlink family SEG6; "
                    "CONFIG_IPV6_SEG6_LWTUNNEL is needed)",
                )
            _, datagram, start, end = answer
            found = attributes(datagram, start + _GENL.size, end)
            self._family = number(found[n.CTRL_ATTR_FAMILY_ID], U16)
        return self._family
