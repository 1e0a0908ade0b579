"""Draws the frontier of time and quality as a small SVG, in the colours of the page around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 16, 44
LINE_PX = 16
TICKS = 5
BELOW = 10
"""Points below the lowest mark down to which controls are drawn."""


def ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Return round numbers from at most `low` to at least `high`, about `count` of them."""
    span = max(high - low, 1e-9)
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * n, 10) for n in range(first, last + 1)]


class _Axes:
    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.xs = ticks(0, max(row["ms_each"] for row in rows))
        self.ys = ticks(min(row["judged"] for row in rows), 100)

    def at(self, row: dict[str, Any]) -> tuple[float, float]:
        across = (row["ms_each"] - self.xs[0]) / (self.xs[-1] - self.xs[0])
        up = (row["judged"] - self.ys[0]) / (self.ys[-1] - self.ys[0])
        x = LEFT + across * (WIDTH - LEFT - RIGHT)
        return round(x, 1), round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1)

    def lines(self) -> list[str]:
        out = []
        for value in self.ys:
            _, y = self.at({"ms_each": self.xs[0], "judged": value})
            out.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke-opacity=".15"/>'
                f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>'
            )
        for value in self.xs:
            x, _ = self.at({"ms_each": value, "judged": self.ys[0]})
            y = HEIGHT - BOTTOM + 16
            out.append(f'<text x="{x}" y="{y}" text-anchor="middle">{value:g}</text>')
        y = HEIGHT - 8
        out.append(f'<text x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">ms each</text>')
        out.append(f'<text x="{LEFT + 4}" y="{TOP + LINE_PX}">judged right, %</text>')
        return out


def _control(axes: _Axes, rows: Sequence[dict[str, Any]], dashes: str) -> str:
    if not rows:
        return ""
    path = " ".join(f"{x},{y}" for x, y in (axes.at(row) for row in rows))
    return (
        f'<polyline points="{path}" fill="none" stroke-opacity=".6" stroke-dasharray="{dashes}"/>'
    )


def _mark(x: float, y: float, number: int, row: dict[str, Any]) -> str:
    """A disc for what is recommended and a ring for what is not, with its number."""
    fill = "currentColor" if row.get("recommended") else "none"
    said = escape(f"{row['variant']}: {row['judged']:g} % right, {row['ms_each']:g} ms each")
    return (
        f'<g><title>{said}</title><circle cx="{x}" cy="{y}" r="4" fill="{fill}"/>'
        f'<text x="{x + 7}" y="{y - 5}">{number}</text></g>'
    )


def frontier(rows: Sequence[dict[str, Any]]) -> str:
    """Return the plot: a numbered mark for each variant, a dashed line for each control.

    `rows` are those of a results file. What could not be measured is left out.
    """
    there = [row for row in rows if "judged" in row]
    # A control that falls far below all that is marked would press those into one line.
    lowest = min((row["judged"] for row in there if row["kind"] != "plain"), default=0) - BELOW
    there = [row for row in there if row["kind"] != "plain" or row["judged"] >= lowest]
    axes = _Axes(there)
    plain = [row for row in there if row["variant"].startswith("plain")]
    exact = [row for row in there if row["variant"].partition(",")[0] == "exact"]
    marks = [row for row in there if row["kind"] != "plain"]
    columns = 2
    lines = math.ceil(len(marks) / columns) + 1
    legend = []
    for index, row in enumerate(marks):
        x = LEFT + index % columns * (WIDTH - LEFT) / columns
        y = HEIGHT + LINE_PX * (index // columns + 1)
        legend.append(f'<text x="{x:g}" y="{y}">{index + 1} {escape(row["variant"])}</text>')
    key = "dashed: plain, fewer steps · dotted: exact, fewer steps · disc: beats fewer steps"
    y = HEIGHT + LINE_PX * lines
    legend.append(f'<text x="{LEFT}" y="{y}" opacity=".7">{key}</text>')
    body = [
        *axes.lines(),
        _control(axes, plain, "6 4"),
        _control(axes, exact, "2 4"),
        *(_mark(*axes.at(row), index + 1, row) for index, row in enumerate(marks)),
        *legend,
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 12}" role="img" '
        'aria-label="Share of pictures judged right by time for each" font-size="12" '
        'font-family="sans-serif" fill="currentColor">'
        '<g stroke="currentColor" stroke-width="1.5" fill="none">'
        + "".join(body).replace("<text ", '<text stroke="none" fill="currentColor" ')
        + "</g></svg>\n"
    )
