"""What this host can do, found out by doing it in a namespace of our own and reading it back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import (
    NextHop,
    Route,
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.dataplane.probe_bpf import bpffs_mounts, clsact_bpf, fast_path, ring_buffer
from srv6dmm.dataplane.probe_host import Finding, settings
from srv6dmm.model.sid import Behavior, EncapMode, Flavor

DONE = "done and read back"
_DEVICE = "probe0"
_PREFIX = IPv6Network("2001:db8:1::/64")
_SID = IPv6Network("fc00:0:1::1/128")
_LOCATOR = IPv6Network("fc00:0:1::/48")
_SEGMENTS = (IPv6Address("fc00::1"), IPv6Address("fc00::2"))
_HOP = IPv6Address("fe80::2")
TOOLS = ("ip", "tc", "ping", "tcpdump", "iperf3", "ethtool")


@contextmanager
def _laboratory() -> Iterator[str]:
    """Make a namespace with one link for the probes, and take it away whatever happens."""
    name = f"s6-probe-{os.getpid()}"
    namespace.create(name)
    try:
        for command in (
            f"link add {_DEVICE} type veth peer name probe1",
            "link set lo up",
            f"link set {_DEVICE} up",
            "link set probe1 up",
        ):
            subprocess.run(["ip", "-n", name, *command.split()], check=True, capture_output=True)
        yield name
    finally:
        namespace.remove(name)


def _holds(kernel: LinuxKernel, route: Route) -> str:
    """Put a route, read it back, delete it; return "" when it came back as it was put."""
    failures = kernel.put([route])
    if failures:
        return failures[0].reason or os.strerror(failures[0].errno)
    found = kernel.read([route.identity]).get(route.identity)
    kernel.delete([route])
    return "" if found == route else f"the kernel took it but holds {found}"


def _sid_route(local: Seg6Local) -> Route:
    return Route(_SID, next_hops=(NextHop(_DEVICE),), encap=local)


_ROUTES: tuple[tuple[str, str, Route, str], ...] = (
    (
        "seg6_encap",
        "H.Encaps (seg6 mode encap)",
        Route(_PREFIX, next_hops=(NextHop(_DEVICE),), encap=Seg6Encap(EncapMode.ENCAP, _SEGMENTS)),
        "needs CONFIG_IPV6_SEG6_LWTUNNEL: nothing works without it",
    ),
    (
        "encap_red",
        "H.Encaps.Red (seg6 mode encap.red)",
        Route(
            _PREFIX, next_hops=(NextHop(_DEVICE),), encap=Seg6Encap(EncapMode.ENCAP_RED, _SEGMENTS)
        ),
        "Linux 6.0 or newer; encap is used instead, 24 bytes more for one segment",
    ),
    ("end", "End", _sid_route(Seg6Local(Behavior.END)), "needs CONFIG_IPV6_SEG6_LWTUNNEL"),
    ("end_x", "End.X", _sid_route(Seg6Local(Behavior.END_X, next_hop=_HOP)), "Linux 4.14"),
    (
        "end_dt6",
        "End.DT6 (table)",
        _sid_route(Seg6Local(Behavior.END_DT6, table=254)),
        "Linux 4.14; an access router cannot deliver without it",
    ),
    (
        "end_dx4",
        "End.DX4",
        _sid_route(Seg6Local(Behavior.END_DX4, next_hop4=IPv4Address("192.0.2.1"))),
        "Linux 4.14; no IPv4 payload without it",
    ),
    ("end_dx6", "End.DX6", _sid_route(Seg6Local(Behavior.END_DX6, next_hop=_HOP)), "Linux 4.14"),
    (
        "psp",
        "End with flavor PSP",
        _sid_route(Seg6Local(Behavior.END, flavors=(Flavor.PSP,))),
        "Linux 6.3; plain End is used instead",
    ),
    (
        "next_csid",
        "End with flavor NEXT-C-SID",
        Route(
            _LOCATOR,
            next_hops=(NextHop(_DEVICE),),
            encap=Seg6Local(Behavior.END, flavors=(Flavor.NEXT_CSID,)),
        ),
        "Linux 6.1 (older ones accept and ignore it); uncompressed SIDs are used instead",
    ),
)


def capabilities() -> dict[str, bool]:
    """Return what an agent tells the controller of its kernel. Some milliseconds, no BCC."""
    with _laboratory() as name:
        kernel = LinuxKernel(name)
        try:
            able = {key: not _holds(kernel, route) for key, _, route, _ in _ROUTES}
            able["counters"] = _counts(kernel)
        finally:
            kernel.close()
    return able


def _counts(kernel: LinuxKernel) -> bool:
    route = _sid_route(Seg6Local(Behavior.END))
    kernel.put([route])
    counted = bool(kernel.sid_counters())
    kernel.delete([route])
    return counted


def probe(compile_bpf: bool = True) -> list[Finding]:
    """Return a finding for everything srv6dmm needs or can use. Needs root; some seconds."""
    if os.geteuid() != 0:
        return [Finding("root", "missing", "namespaces and routes need root", "run it as root")]
    findings: list[Finding] = []
    with _laboratory() as name:
        kernel = LinuxKernel(name)
        try:
            for _, title, route, remedy in _ROUTES:
                findings.append(_judge(title, _holds(kernel, route), remedy))
            findings.append(
                _judge(
                    "SID counters",
                    "" if _counts(kernel) else "not counted",
                    "Linux 5.13; SIDs work, but are not counted",
                    "limited",
                )
            )
            findings.append(_tunnel_source(kernel))
            findings.append(_forwarding(kernel))
        finally:
            kernel.close()
        for action, since in (("End.DT4", "5.11"), ("End.DT46", "5.14")):
            findings.append(
                _judge(
                    f"{action} (vrftable)",
                    _vrf(name, action),
                    f"Linux {since} with VRF (CONFIG_NET_VRF); End.DX4 is used instead",
                    "limited",
                )
            )
        findings.append(
            _judge(
                "tc clsact + bpf",
                clsact_bpf(name, _DEVICE),
                "needs CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS; mode netlink only",
                "limited",
            )
        )
    findings.append(
        _judge("BPF ring buffer", ring_buffer(), "Linux 5.8; no detection by eBPF", "limited")
    )
    findings.append(_judge("bpffs", bpffs_mounts(), "mount -t bpf bpf /sys/fs/bpf", "limited"))
    findings += _headers()
    if compile_bpf:
        findings.append(
            _judge(
                "fast path compiles and loads",
                fast_path(),
                "apt-get install python3-bpfcc and kernel headers, or run deploy/setup.sh; "
                "mode netlink needs neither",
                "limited",
            )
        )
    findings += _host()
    findings += settings()
    return findings


def _judge(name: str, fault: str, remedy: str, status: str = "missing") -> Finding:
    if not fault:
        return Finding(name, "ok", DONE)
    if name not in ("H.Encaps (seg6 mode encap)", "End.DT6 (table)", "End"):
        status = "limited"
    return Finding(name, status, fault, remedy)


def _tunnel_source(kernel: LinuxKernel) -> Finding:
    source = TunnelSource(IPv6Address("fc00:0:1::1"))
    failures = kernel.put([source])
    held = kernel.read([source.identity]).get(source.identity)
    fault = "" if held == source and not failures else str(failures or held)
    return _judge(
        "tunnel source",
        fault,
        "without `ip sr tunsrc` the kernel selects a source for every packet, at twice the cost",
    )


def _forwarding(kernel: LinuxKernel) -> Finding:
    item = Sysctl("net/ipv6/conf/all/forwarding", "1")
    failures = kernel.put([item])
    held = kernel.read([item.identity]).get(item.identity)
    fault = "" if held == item and not failures else f"cannot be set; it is {held}"
    return _judge("IPv6 forwarding", fault, "is /proc/sys mounted read-only?")


def _vrf(name: str, action: str) -> str:
    """Give a SID of a VRF to the kernel. The VRF is made anew: a SID wants a table of its own."""
    fault = _said(name, "ip", "link", "add", "probevrf", "type", "vrf", "table", "100")
    if fault:
        return fault
    try:
        local = f"encap seg6local action {action} vrftable 100 dev probevrf"
        # The kernel finds a VRF by its table only where no two may have the same. The switch is
        # not there before the first VRF is.
        fault = (
            _said(name, "sysctl", "-w", "net.vrf.strict_mode=1")
            or _said(name, "ip", "link", "set", "probevrf", "up")
            or _said(name, "ip", "-6", "route", "add", str(_SID), *local.split())
        )
        if fault:
            return fault
        with namespace.inside(name):
            shown = subprocess.run(
                ["ip", "-6", "route", "show", str(_SID)],
                capture_output=True,
                text=True,
                check=False,
            )
        held = f"action {action} vrftable 100" in shown.stdout
        return "" if held else "the kernel took it but does not show it"
    finally:
        _said(name, "ip", "link", "del", "probevrf")


def _said(name: str, *command: str) -> str:
    """Run a command in a namespace; return "", or its last words when it fails."""
    with namespace.inside(name):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.returncode:
        return ""
    return (done.stderr.strip().splitlines() or ["refused"])[-1]


def _headers() -> list[Finding]:
    build = Path("/lib/modules") / os.uname().release / "build"
    if build.exists():
        return [Finding("kernel headers", "ok", str(build))]
    return [
        Finding(
            "kernel headers",
            "limited",
            f"{build} is not there",
            "apt-get install linux-headers-$(uname -r), or run deploy/setup.sh",
        )
    ]


def _host() -> list[Finding]:
    found: list[Finding] = []
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    found.append(
        Finding("tools", "ok", ", ".join(TOOLS))
        if not lacking
        else Finding("tools", "limited", f"not found: {', '.join(lacking)}", "run deploy/setup.sh")
    )
    named = (
        any(
            "srv6dmm" in path.read_text(errors="replace")
            for path in Path("/etc/iproute2/rt_protos.d").glob("*.conf")
        )
        if Path("/etc/iproute2/rt_protos.d").is_dir()
        else False
    )
    found.append(
        Finding("route protocol name", "ok", "201 is srv6dmm")
        if named
        else Finding(
            "route protocol name",
            "limited",
            "`ip route` will show 201",
            "copy deploy/config/rt_protos.conf to /etc/iproute2/rt_protos.d/srv6dmm.conf",
        )
    )
    return found
