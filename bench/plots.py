"""Plots as SVG, written by hand: bars beside each other on a logarithmic scale, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, LINE, BAR = 760, 230, 90, 26, 16
OURS, THEIRS, LIMIT = "#1b7f5c", "#8a8f98", "#c0392b"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; ``least`` and ``most`` draw its spread where they differ."""

    name: str
    value: float
    ours: bool = False
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic axis from ``low`` to ``high`` over the plot's width."""

    low: float
    high: float

    def x(self, value: float) -> float:
        share = (math.log10(max(value, self.low)) - math.log10(self.low)) / (
            math.log10(self.high) - math.log10(self.low)
        )
        return LEFT + min(1.0, share) * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        every = [10.0**power * part for power in range(first, last + 1) for part in (1, 2, 5)]
        within = [each for each in every if self.low <= each <= self.high]
        return within if len(within) <= 8 else [each for each in within if f"{each:e}".startswith("1")]


def scale(bars: Sequence[Bar], limit: float | None) -> Scale:
    values = [each for bar in bars for each in (bar.value, bar.least, bar.most) if each and each > 0]
    values += [limit] if limit else []
    return Scale(min(values) / 1.5, max(values) * 1.2)


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plot(title: str, unit: str, bars: Sequence[Bar], limit: float | None = None) -> str:
    """The SVG of one plot. ``limit``: the target, a dashed line."""
    axis = scale(bars, limit)
    height = 56 + LINE * len(bars) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"',
        f'role="img" aria-label="{escape(title, quote=True)}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="14" font-weight="bold" fill="#222222">{escape(title)}</text>',
        f'<text x="12" y="40" fill="#555555">{escape(unit)}, logarithmic; less is better unless said</text>',
    ]
    bottom = 52 + LINE * len(bars)
    for tick in axis.ticks():
        x = axis.x(tick)
        parts.append(f'<line x1="{x:.1f}" y1="50" x2="{x:.1f}" y2="{bottom}" stroke="#e3e5e8"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555555">{short(tick)}</text>')
    for number, bar in enumerate(bars):
        parts += drawn(bar, axis, 54 + LINE * number)
    if limit:
        x = axis.x(limit)
        parts.append(f'<line x1="{x:.1f}" y1="46" x2="{x:.1f}" y2="{bottom}" stroke="{LIMIT}" stroke-dasharray="5 3"/>')
        parts.append(f'<text x="{x + 4:.1f}" y="{bottom + 28}" fill="{LIMIT}">target {short(limit)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def drawn(bar: Bar, axis: Scale, y: float) -> list[str]:
    """A bar with its name, its spread and its figure."""
    end, middle = axis.x(bar.value), y + BAR / 2
    parts = [
        f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end" fill="#222222">{escape(bar.name)}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{max(1.0, end - LEFT):.1f}" height="{BAR}"',
        f'fill="{OURS if bar.ours else THEIRS}"/>',
    ]
    right = end
    if bar.least is not None and bar.most is not None and bar.most > bar.least:
        low, right = axis.x(bar.least), max(end, axis.x(bar.most))
        parts.append(f'<line x1="{low:.1f}" y1="{middle}" x2="{right:.1f}" y2="{middle}" stroke="#222222"/>')
    parts.append(f'<text x="{right + 6:.1f}" y="{y + 13}" fill="#222222">{short(bar.value)}</text>')
    return parts
