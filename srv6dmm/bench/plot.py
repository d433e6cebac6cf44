"""A bar chart of ratios as SVG: one bar per case, a line at plain forwarding, the spread on it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 860, 200, 150, 64, 22
_BAR = 14
_PLAIN, _KERNEL, _FAST = "#8a8f98", "#c8843c", "#2f6fb5"


def _colour(name: str) -> str:
    if name == "plain":
        return _PLAIN
    return _KERNEL if name.startswith(("kernel", "vxlan")) else _FAST


def bar_chart(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the SVG of cases {name, ratio, ratio_min, ratio_max, ns}, in their order."""
    greatest = max([1.0, *(float(row["ratio_max"]) for row in rows)])
    span = _WIDTH - _LEFT - _RIGHT
    height = _TOP + _ROW * len(rows) + 34

    def x(ratio: float) -> float:
        return round(_LEFT + span * ratio / greatest, 1)

    bottom = height - 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="16" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
        '<text x="16" y="44" fill="#555">time per packet as a ratio to plain forwarding of the '
        "same moment; thin line: smallest to greatest round</text>",
    ]
    step = 0.25 if greatest <= 2.5 else 0.5
    for tick in range(int(greatest / step) + 1):
        at = x(tick * step)
        parts.append(
            f'<line x1="{at}" y1="{_TOP - 8}" x2="{at}" y2="{bottom}" stroke="#e3e5e8"/>'
            f'<text x="{at}" y="{bottom + 16}" fill="#555" text-anchor="middle">'
            f"{tick * step:g}</text>"
        )
    for number, row in enumerate(rows):
        y = _TOP + _ROW * number
        ratio, low, high = (float(row[key]) for key in ("ratio", "ratio_min", "ratio_max"))
        middle = y + _BAR / 2
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(row["name"])}</text>'
            f'<rect x="{_LEFT}" y="{y}" width="{x(ratio) - _LEFT:.1f}" height="{_BAR}" '
            f'fill="{_colour(row["name"])}"/>'
            f'<line x1="{x(low)}" y1="{middle}" x2="{x(high)}" y2="{middle}" stroke="black"/>'
            f'<text x="{_WIDTH - _RIGHT + 12}" y="{y + 11}">{ratio:.2f}'
            f'<tspan fill="#555">  {row["ns"]:,.0f} ns</tspan></text>'
        )
    one = x(1.0)
    parts.append(
        f'<line x1="{one}" y1="{_TOP - 8}" x2="{one}" y2="{bottom}" stroke="#c33" '
        'stroke-dasharray="4 3"/>'
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def chart(report: dict[str, Any], size: int) -> str:
    """Return the SVG of a report's cases of one frame size."""
    rows = [row for row in report["cases"] if row["bytes"] == size]
    kernel = report["environment"]["kernel"]
    return bar_chart(f"srv6dmm bench forwarding: {size} B frames, one core, Linux {kernel}", rows)
