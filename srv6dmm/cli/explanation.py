"""An explanation in eighty columns."""

from __future__ import annotations

import textwrap
from typing import Any

_WIDTH = 80
_MARGIN = 9


def print_explanation(told: dict[str, Any]) -> None:
    """Print what `/v1/paths/explain` answers."""
    packet = told["packet"]
    _say("packet", f"{packet['source']} -> {packet['destination']}, protocol {packet['protocol']}")
    _say("enters", f"at {told['head_end']}; {told['mobile_node']} is at {told['serving']}")
    for rule in told["rules"]:
        mark = "*" if rule["decides"] else "-"
        _say(f"rule   {mark}", f"{rule['name']} (priority {rule['priority']}): {rule['reason']}")
    if told["policy"]:
        fell = "; no candidate path is valid" if told["fell_back"] else ""
        _say("policy", f"{told['policy']}{fell}")
    for candidate in told["candidates"]:
        state = "active" if candidate["active"] else candidate["reason"]
        _say("", f"preference {candidate['preference']}: {state}")
        for path in candidate["paths"]:
            way = " ".join(path["routers"]) if path["routers"] else path["reason"]
            _say("", f"  {path['weight']} x {way}")
    for number, one in enumerate(told["lists"], 1):
        _list(number, one, told["mode"])
    for walk in told["walks"]:
        for hop in walk["hops"]:
            _hop(hop)
        _say("end", f"{walk['outcome']}: {walk['detail']}")
    if "live" in told:
        _live(told["live"])


def _say(name: str, text: str) -> None:
    from srv6dmm.cli.output import console

    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{name:{_MARGIN}}",
        subsequent_indent=" " * (_MARGIN + 2),
        break_long_words=True,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _list(number: int, one: dict[str, Any], mode: str) -> None:
    kind = "backup" if one["backup"] else f"weight {one['weight']}"
    _say(f"list {number}", f"{kind}, {mode}, packets of up to {one['inner_mtu']} bytes")
    for segment in one["segments"]:
        if segment["slots"]:
            _say("", f"{segment['sid']}  container of")
            for slot in segment["slots"]:
                _say("", f"  {slot['behavior']} of {slot['router']}{_more(slot)}")
            continue
        _say("", f"{segment['sid']}  {segment['behavior']} of {segment['router']}{_more(segment)}")
    header = one["header"]
    if header is not None:
        _say("header", f"{header['octets']} bytes, to {header['destination']}")
        if header["srh"]:
            _say("", f"SRH {header['srh']}")


def _more(meaning: dict[str, Any]) -> str:
    return f", {meaning['detail']}" if meaning["detail"] else ""


_SYNC = {True: "in sync", False: "NOT IN SYNC", None: "not known"}


def _hop(hop: dict[str, Any]) -> None:
    known = _SYNC[hop["in_sync"]]
    _say(f"at {hop['router']}", known if hop["reason"] is None else f"{known}: {hop['reason']}")
    for step in hop["steps"]:
        _say("", step["action"])
        for found in step["found"]:
            _say("", f"  {step['state']}: {found}")
        if step["packets"] is not None:
            errors = f", {step['errors']} errors" if step["errors"] else ""
            _say("", f"  counted {step['packets']} packets, {step['bytes']} bytes{errors}")


def _live(live: dict[str, Any]) -> None:
    where = f"{live['router']}:{live['interface']}" if live["interface"] else live["router"]
    if not live["sent"]:
        _say("live", f"not sent at {where}: {live['reason']}")
        return
    _say("live", f"came in at {where}; {live['ending']}")
    for hop in live["hops"]:
        when = f"{hop['at_us'] / 1000:.2f} ms" if hop["at_us"] is not None else "not looked at"
        out = f"out of {hop['leaves_by']}" if hop["leaves_by"] else "not seen to leave"
        _say("", f"{hop['router']}: in by {hop['arrives_by']} at {when}, {out}")
        for header in reversed(hop["headers"]):
            _say("", f"  to {', '.join(header)}")
    for address in live["answered_by"]:
        _say("", f"{address} sent an error back")
    for one in live["unwatched"]:
        _say("", f"nobody looks at {one['router']}: {one['reason']}")
    verdict = {True: "as simulated", False: "NOT as simulated", None: "too little was seen"}
    more = f": {live['difference']}" if live["difference"] else ""
    _say("verdict", f"{verdict[live['agrees']]}{more}")
