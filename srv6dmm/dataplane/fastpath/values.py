"""Fast path entries as map elements, and back. Pure: interface indexes come from a table."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

from srv6dmm.dataplane.fastpath.layout import (
    NO_ADDRESS,
    BindingKey,
    Config,
    Delivery,
    ForeignKey,
    Path,
    PortRole,
    Sid,
    SidCode,
    outer_header,
)
from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastBinding,
    FastDelivery,
    FastList,
    FastSettings,
    FastSid,
    FastSteering,
)
from srv6dmm.dataplane.fastpath.rule_layout import FlowSets
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable
from srv6dmm.model.sid import Behavior, EncapMode, Flavor, SegmentList

EVENT_GAP_MS = 200
REDIRECT = 1
"""PATH_REDIRECT: the last segment alone leads along the same path."""
DIRECT = 2
"""DELIVER_DIRECT: with the link-layer addresses of the element."""
PSP = 1
_FIXED, _SEGMENT, _ROUTING = 40, 16, 43
_SRH_LEFT, _SRH_LAST, _SRH_LIST = _FIXED + 3, _FIXED + 4, _FIXED + 8

Way = tuple[EncapMode, SegmentList, IPv6Address, str, IPv6Address, int]
"""The members of a FastSteering but for its prefix, of a FastList but for its weight, in order."""

ROLES = {
    Facing.ACCESS: PortRole.ACCESS,
    Facing.OUTSIDE: PortRole.OUTSIDE,
    Facing.CORE: PortRole.CORE,
}
_FACING = {role: facing for facing, role in ROLES.items()}
_CODES = {
    Behavior.END: SidCode.END,
    Behavior.END_X: SidCode.END_X,
    Behavior.END_DX6: SidCode.END_DX6,
    Behavior.END_DX4: SidCode.END_DX4,
    Behavior.END_DT6: SidCode.END_DT6,
}
_BEHAVIORS = {code: behavior for behavior, code in _CODES.items()}


def facing(role: int) -> Facing | None:
    """Return what a port's role stands for; None for one we do not know."""
    return _FACING.get(PortRole(role)) if role in set(PortRole) else None


def behavior_of(code: int) -> Behavior | None:
    """Return the behavior of a codepoint; None for one that no plan has."""
    return _BEHAVIORS.get(SidCode(code)) if code in set(SidCode) else None


def prefix_key(prefix: IPv6Network) -> tuple[str, bytes]:
    """Return the map a prefix belongs into, and its key there."""
    if prefix.prefixlen == 64:
        return "prefixes", prefix.network_address.packed[:8]
    return "foreign", ForeignKey(prefix.prefixlen, prefix.network_address).pack()


def prefix_of(table: str, key: bytes) -> IPv6Network:
    """Return the prefix of a key."""
    if table == "prefixes":
        return IPv6Network((key + bytes(8), 64))
    found = ForeignKey.unpack(key)
    return IPv6Network((found.address, found.length), strict=False)


def config(settings: FastSettings, *, flows: FlowSets, foreign: bool) -> Config:
    """Return the element of `config`."""
    block = settings.sid_block
    return Config(
        sid_block=block.network_address if block else NO_ADDRESS,
        sid_block_mask=block.netmask if block else NO_ADDRESS,
        has_flows=int(flows),
        has_foreign=int(foreign),
        event_gap_ms=EVENT_GAP_MS,
        locator_length=settings.locator_length,
    )


def settings_of(found: Config) -> FastSettings:
    """Return what an element of `config` says."""
    length = bin(int(found.sid_block_mask)).count("1")
    block = IPv6Network((found.sid_block, length)) if length else None
    return FastSettings(block, found.locator_length)


def route_key(locator: IPv6Network) -> bytes:
    """Return a locator's key in `routes`. Raises ValueError for one longer than 64 bits."""
    if locator.prefixlen > 64:
        raise ValueError(f"{locator}: the fast path takes locators of up to 64 bits")
    return (int(locator.network_address) >> 128 - locator.prefixlen).to_bytes(8, "little")


def locator_of(key: bytes, length: int) -> IPv6Network:
    """Return the locator of a key in `routes`."""
    return IPv6Network((int.from_bytes(key, "little") << 128 - length, length))


def path(item: FastSteering | FastList, interfaces: InterfaceTable) -> Path:
    """Return the path of a steering entry or of a flow's list, without a counter.

    Raises NoSuchInterface, and ValueError for a list that is empty or too long.
    """
    header = outer_header(item.mode, item.segments, item.source)
    return Path(
        ifindex=interfaces.index(item.interface),
        header_length=len(header),
        mtu=item.mtu,
        counter=0,
        flags=REDIRECT if len(item.segments) == 1 else 0,
        next_hop=item.next_hop,
        last=item.segments[-1],
        header=header,
    )


def way_of(found: Path, interfaces: InterfaceTable) -> Way:
    """Return what a path is to every steering entry that names it."""
    mode, segments = _segments_of(found.header)
    return (
        mode,
        segments,
        IPv6Address(found.header[8:24]),
        interfaces.name(found.ifindex),
        found.next_hop,
        found.mtu,
    )


def _segments_of(header: bytes) -> tuple[EncapMode, SegmentList]:
    destination = IPv6Address(header[24:40])
    if header[6] != _ROUTING:
        return EncapMode.ENCAP_RED, (destination,)
    listed = tuple(
        IPv6Address(header[at : at + _SEGMENT]) for at in range(_SRH_LIST, len(header), _SEGMENT)
    )[::-1]
    if header[_SRH_LEFT] > header[_SRH_LAST]:  # the first segment is in the destination only
        return EncapMode.ENCAP_RED, (destination, *listed)
    return EncapMode.ENCAP, listed


def delivery(item: FastDelivery, interfaces: InterfaceTable) -> Delivery:
    """Return the element of `deliveries`. Raises NoSuchInterface; ValueError unless a /64."""
    if item.prefix.prefixlen != 64:
        raise ValueError(f"{item.prefix}: mobile prefixes on a port are /64s")
    return Delivery(
        ifindex=interfaces.index(item.interface),
        counter=0,
        mac=_octets(item.link_layer_address),
        source_mac=_octets(item.source) if item.source else bytes(6),
        flags=DIRECT if item.source else 0,
        next_hop=item.next_hop,
        mtu=item.mtu,
    )


def delivery_of(prefix: IPv6Network, found: Delivery, interfaces: InterfaceTable) -> FastDelivery:
    """Return the entry that an element of `deliveries` is."""
    return FastDelivery(
        prefix,
        interfaces.name(found.ifindex),
        _text(found.mac),
        found.next_hop,
        found.mtu,
        _text(found.source_mac) if found.flags & DIRECT else None,
    )


def binding(item: FastBinding, interfaces: InterfaceTable) -> BindingKey:
    """Return the key in `bindings`. Raises NoSuchInterface; ValueError unless a /64."""
    if item.prefix.prefixlen != 64:
        raise ValueError(f"{item.prefix}: only a /64 can be bound to a port")
    return BindingKey(
        prefix=item.prefix.network_address.packed[:8],
        ifindex=interfaces.index(item.interface),
        vlan=0,
        mac=_octets(item.link_layer_address),
    )


def binding_of(found: BindingKey, interfaces: InterfaceTable) -> FastBinding:
    """Return the entry that a key of `bindings` is."""
    return FastBinding(
        IPv6Network((found.prefix + bytes(8), 64)),
        interfaces.name(found.ifindex),
        _text(found.mac),
    )


def sid(item: FastSid, interfaces: InterfaceTable) -> Sid:
    """Return the element of `sids`, without a counter.

    Raises NoSuchInterface; ValueError for an End.DX4 with an interface.
    """
    if item.behavior is Behavior.END_DX4 and item.interface is not None:
        raise ValueError(f"{item.sid}: End.DX4 finds its interface by the kernel's routes")
    next_hop = item.next_hop or NO_ADDRESS
    if isinstance(next_hop, IPv4Address):
        next_hop = IPv6Address(next_hop.packed + bytes(12))
    return Sid(
        behavior=_CODES[item.behavior],
        flags=PSP if Flavor.PSP in item.flavors else 0,
        ifindex=interfaces.index(item.interface) if item.interface else 0,
        counter=0,
        next_hop=next_hop,
        mapped=NO_ADDRESS,
    )


def sid_of(address: IPv6Address, found: Sid, interfaces: InterfaceTable) -> FastSid | None:
    """Return the entry that an element of `sids` is; None for a behavior we do not know."""
    behavior = behavior_of(found.behavior)
    if behavior is None:
        return None
    next_hop: IPv6Address | IPv4Address | None = found.next_hop
    if behavior is Behavior.END_DX4:
        next_hop = IPv4Address(found.next_hop.packed[:4])
    return FastSid(
        address,
        behavior,
        interfaces.name(found.ifindex) if found.ifindex else None,
        None if next_hop == NO_ADDRESS else next_hop,
        (Flavor.PSP,) if found.flags & PSP else (),
    )


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _text(octets: bytes) -> str:
    return ":".join(f"{octet:02x}" for octet in octets)
