"""Records and messages as JSON: one codec for the store, the wire and the API.

Unions travel as `[name of the class, value]`; addresses and prefixes as text.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import UnionType
from typing import Any, TypeVar

import msgspec

from srv6dmm.model import plan, wire
from srv6dmm.model.addresses import as_text

T = TypeVar("T")
_TEXT = (IPv4Address, IPv4Network, IPv6Address, IPv6Network)


def _to_text(value: object) -> object:
    if isinstance(value, _TEXT):
        return as_text(value)
    raise NotImplementedError(type(value).__name__)


@lru_cache(maxsize=1 << 16)
def _parsed(kind: Callable[[str], object], text: str) -> object:
    """Return an address or prefix; the same few come again and again, and never change."""
    return kind(text)


def _from_text(kind: type, value: object) -> object:
    if kind in _TEXT:
        if not isinstance(value, str):
            raise ValueError(f"want text for {kind.__name__}")
        return _parsed(kind, value)
    raise NotImplementedError(kind.__name__)


_encoder = msgspec.json.Encoder(enc_hook=_to_text)
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(value: object) -> bytes:
    """Return a record (not a union) as JSON."""
    return _encoder.encode(value)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Return a value of `kind` from JSON. Raises ValueError naming the place of the fault."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind, dec_hook=_from_text)
    try:
        return typing.cast(T, decoder.decode(data))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def to_builtins(value: object) -> Any:
    """Return a record as dicts, lists, text and numbers, as `encode` would write it."""
    return msgspec.to_builtins(value, enc_hook=_to_text)


def from_builtins(value: object, kind: type[T]) -> T:
    """Return what `to_builtins` was given. Raises ValueError naming the place of the fault."""
    return msgspec.convert(value, kind, dec_hook=_from_text)


def _named(union: UnionType) -> dict[str, type]:
    return {kind.__name__: kind for kind in typing.get_args(union)}


_ENTRIES = _named(plan.PlanEntry)
_MESSAGES = _named(wire.FromAgent) | _named(wire.FromController)

_Tagged = tuple[str, msgspec.Raw]


class _RawFullPlan(msgspec.Struct, forbid_unknown_fields=True):
    revision: int
    entries: list[_Tagged]


class _RawDeltaPlan(msgspec.Struct, forbid_unknown_fields=True):
    base: int
    revision: int
    put: list[_Tagged]
    gone: tuple[str, ...]


class _RawInspect(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    entries: list[_Tagged]


def _tag(entry: plan.PlanEntry) -> tuple[str, plan.PlanEntry]:
    return (type(entry).__name__, entry)


def encode_entry(entry: plan.PlanEntry) -> bytes:
    """Return one plan entry as tagged JSON."""
    return encode(_tag(entry))


def _entry(tagged: _Tagged) -> plan.PlanEntry:
    name, raw = tagged
    try:
        kind = _ENTRIES[name]
    except KeyError:
        raise ValueError(f"unknown plan entry {name!r}: is the other side newer?") from None
    return typing.cast(plan.PlanEntry, decode(bytes(raw), kind))


def encode_message(message: wire.FromAgent | wire.FromController) -> bytes:
    """Return a wire message as one tagged JSON frame."""
    body: object = message
    if isinstance(message, wire.FullPlan):
        body = {"revision": message.revision, "entries": [_tag(e) for e in message.entries]}
    elif isinstance(message, wire.DeltaPlan):
        body = {
            "base": message.base,
            "revision": message.revision,
            "put": [_tag(e) for e in message.put],
            "gone": message.gone,
        }
    elif isinstance(message, wire.Inspect):
        body = {"number": message.number, "entries": [_tag(e) for e in message.entries]}
    return encode((type(message).__name__, body))


def decode_message(data: bytes | str) -> wire.FromAgent | wire.FromController:
    """Return the message in a frame. Raises ValueError on anything that is not one."""
    name, raw = decode(data, tuple[str, msgspec.Raw])
    kind = _MESSAGES.get(name)
    if kind is None:
        raise ValueError(f"unknown message {name!r}: is the other side newer?")
    if kind is wire.FullPlan:
        full = decode(bytes(raw), _RawFullPlan)
        return wire.FullPlan(full.revision, tuple(_entry(e) for e in full.entries))
    if kind is wire.DeltaPlan:
        delta = decode(bytes(raw), _RawDeltaPlan)
        put = tuple(_entry(e) for e in delta.put)
        return wire.DeltaPlan(delta.base, delta.revision, put, delta.gone)
    if kind is wire.Inspect:
        asked = decode(bytes(raw), _RawInspect)
        return wire.Inspect(asked.number, tuple(_entry(e) for e in asked.entries))
    return typing.cast("wire.FromAgent | wire.FromController", decode(bytes(raw), kind))
