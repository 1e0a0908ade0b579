"""Draws the frontier of time and quality as a small SVG, in the colours of the page around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 16, 44
LINE_PX = 16
DIGIT_PX = 7
"""The width of a digit, at most."""
TICKS = 5
BELOW = 10
"""Points below the lowest mark down to which controls are drawn."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


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


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _places(points: Sequence[tuple[float, float]]) -> list[tuple[float, float, int]]:
    """Return where the number of each mark goes: x, y and how many lines away from its mark.

    The nearest place that no mark and no earlier number takes, from the left to the right.
    """
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    found: dict[int, tuple[float, float, int]] = {}
    for index in sorted(range(len(points)), key=lambda index: points[index]):
        x, y = points[index]
        wide = DIGIT_PX * len(str(index + 1))
        found[index] = (x + 7, y - 5, 0)
        for away, down, left in product(range(HEIGHT // LINE_PX), (False, True), (False, True)):
            at_x = x - 6 - wide if left else x + 6
            at_y = y + 14 + LINE_PX * away if down else y - 5 - LINE_PX * away
            box = (at_x, at_y - 10, at_x + wide, at_y + 1)
            inside = box[2] <= WIDTH and box[1] >= TOP and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_meet(box, other) for other in taken):
                found[index] = (round(at_x, 1), round(at_y, 1), away)
                taken.append(box)
                break
    return [found[index] for index in range(len(points))]


def _mark(
    point: tuple[float, float], place: tuple[float, float, int], number: int, row: dict[str, Any]
) -> str:
    """A disc for what is recommended and a ring for what is not, with its number."""
    (x, y), (at_x, at_y, away) = point, place
    fill = "currentColor" if row.get("recommended") else "none"
    said = escape(f"{row['variant']}: {row['judged']:g} % right, {row['ms_each']:g} ms each")
    leader = ""
    if away:
        end_x = at_x if at_x > x else at_x + DIGIT_PX * len(str(number))
        end_y, begin_y = (at_y + 2, y - 4) if at_y < y else (at_y - 10, y + 4)
        leader = (
            f'<line x1="{x}" y1="{round(begin_y, 1)}" x2="{round(end_x, 1)}" '
            f'y2="{round(end_y, 1)}" stroke-width=".75" stroke-opacity=".5"/>'
        )
    return (
        f'<g><title>{said}</title><circle cx="{x}" cy="{y}" r="4" fill="{fill}"/>{leader}'
        f'<text x="{at_x}" y="{at_y}">{number}</text></g>'
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
    points = [axes.at(row) for row in marks]
    places = _places(points)
    body = [
        *axes.lines(),
        _control(axes, plain, "6 4"),
        _control(axes, exact, "2 4"),
        *(
            _mark(point, place, index + 1, row)
            for index, (row, point, place) in enumerate(zip(marks, points, places, strict=True))
        ),
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
