"""What every cut cost, as SVG: one dot per cut, one row per case and mode, a logarithmic scale."""

from __future__ import annotations

from html import escape
from math import log10
from typing import Any

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 860, 190, 40, 70, 34
_LEAST_MS, _MOST_MS = 0.01, 100.0
_REACH = ((5.0, "local"), (50.0, "remote"))
_COLOURS = {"netlink": "#c8843c", "ebpf": "#2f6fb5"}


def _x(milliseconds: float) -> float:
    shown = min(max(milliseconds, _LEAST_MS), _MOST_MS)
    share = (log10(shown) - log10(_LEAST_MS)) / (log10(_MOST_MS) - log10(_LEAST_MS))
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * share, 1)


def chart(report: dict[str, Any]) -> str:
    """Return the SVG of a report of `bench protection`."""
    cases = report["cases"]
    bottom = _TOP + _ROW * len(cases)
    kernel = escape(str(report["environment"]["kernel"]))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{bottom + 40}" '
        f'viewBox="0 0 {_WIDTH} {bottom + 40}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{bottom + 40}" fill="white"/>',
        '<text x="16" y="24" font-size="15" font-weight="bold">srv6dmm bench protection: '
        f"packets lost per cut, Linux {kernel}</text>",
        '<text x="16" y="44" fill="#555">milliseconds of traffic, one dot per cut; at the left '
        "edge: nothing lost</text>",
    ]
    tick = _LEAST_MS
    while tick <= _MOST_MS * 1.01:
        at = _x(tick)
        parts.append(
            f'<line x1="{at}" y1="{_TOP - 8}" x2="{at}" y2="{bottom}" stroke="#e3e5e8"/>'
            f'<text x="{at}" y="{bottom + 16}" fill="#555" text-anchor="middle">{tick:g}</text>'
        )
        tick *= 10
    for limit, name in _REACH:
        at = _x(limit)
        parts.append(
            f'<line x1="{at}" y1="{_TOP - 8}" x2="{at}" y2="{bottom}" stroke="#c33" '
            f'stroke-dasharray="4 3"/><text x="{at}" y="{_TOP - 12}" fill="#c33" '
            f'text-anchor="middle">{name}</text>'
        )
    for number, case in enumerate(cases):
        y = _TOP + _ROW * number
        colour = _COLOURS[case["mode"]]
        parts.append(
            f'<text x="{_LEFT - 12}" y="{y + 18}" text-anchor="end">'
            f"{escape(case['name'])}, {escape(case['mode'])}</text>"
        )
        for index, lost in enumerate(case["lost_per_cut"]):
            spread = 4 + 22 * (index * 7 % len(case["lost_per_cut"])) / len(case["lost_per_cut"])
            parts.append(
                f'<circle cx="{_x(lost / case["kpps"])}" cy="{y + spread:.1f}" r="2.6" '
                f'fill="{colour}" fill-opacity="0.6"/>'
            )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
