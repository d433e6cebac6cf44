"""What this host is set to: sysctls that decide whether packets get through and spread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/sys/net")
_STRICT = "1"


@dataclass(frozen=True, slots=True)
class Finding:
    """One capability: `status` is ok, limited or missing; `remedy` is empty when ok."""

    name: str
    status: str
    detail: str
    remedy: str = ""


def settings(proc: Path = PROC) -> Iterator[Finding]:
    """Yield a finding for each sysctl of the namespace we are in, with its value.

    `proc` is where sysctls of the network are read from.
    """
    yield _value(
        proc / "ipv6/conf/all/forwarding",
        "host forwarding",
        {"0": "the host does not forward IPv6"},
        "an agent sets it when it starts, in its namespace; sysctl -w "
        "net.ipv6.conf.all.forwarding=1 has it before that",
    )
    strict = _interfaces(proc / "ipv4/conf", "rp_filter", _STRICT)
    if _read(proc / "ipv4/conf/all/rp_filter") == _STRICT:
        strict = ["all"]
    yield _interfaces_finding(
        "rp_filter (IPv4)",
        strict,
        "strict on no interface",
        "strict on {}: IPv4 packets that End.DX4 takes out of SRv6 are dropped",
        "sysctl -w net.ipv4.conf.<interface>.rp_filter=2 (loose), for all too: the stricter counts",
    )
    yield _value(
        proc / "ipv6/seg6_flowlabel",
        "seg6_flowlabel",
        {"-1": "outer flow labels are 0: all flows of two routers take one of equal paths"},
        "sysctl -w net.ipv6.seg6_flowlabel=0 (the inner label) or 1 (of the inner flow)",
    )
    yield _interfaces_finding(
        "seg6_enabled",
        [
            path.name
            for path in _directories(proc / "ipv6/conf")
            if _read(path / "seg6_enabled") not in ("0", None)
        ],
        "0 on every interface",
        "not 0 on {}: every local address is a SID",
        "set net.ipv6.conf.<interface>.seg6_enabled=0; SIDs work without it",
    )


def _value(path: Path, name: str, faults: dict[str, str], remedy: str) -> Finding:
    value = _read(path)
    if value is None:
        return Finding(name, "limited", f"{path} cannot be read", "is /proc/sys there?")
    if value in faults:
        return Finding(name, "limited", f"{value}: {faults[value]}", remedy)
    return Finding(name, "ok", value)


def _interfaces_finding(
    name: str, wrong: list[str], right: str, fault: str, remedy: str
) -> Finding:
    if wrong:
        return Finding(name, "limited", fault.format(", ".join(wrong)), remedy)
    return Finding(name, "ok", right)


def _interfaces(conf: Path, setting: str, value: str) -> list[str]:
    return [path.name for path in _directories(conf) if _read(path / setting) == value]


def _directories(conf: Path) -> list[Path]:
    return sorted(path for path in conf.iterdir() if path.is_dir()) if conf.is_dir() else []


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
