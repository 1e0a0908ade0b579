"""The plot is well-formed and has a mark for every row that was measured."""

import xml.etree.ElementTree as ET
from itertools import combinations
from typing import Any

import pytest

from inference.bench.plot import frontier, ticks

ROWS: list[dict[str, Any]] = [
    {"variant": "plain, 8 steps", "kind": "plain", "judged": 92.0, "ms_each": 100.0},
    {"variant": "plain, 4 steps", "kind": "plain", "judged": 85.0, "ms_each": 60.0},
    {"variant": "a<b", "kind": "alone", "judged": 91.0, "ms_each": 90.0, "recommended": True},
    {"variant": "taylor", "kind": "alone", "judged": 80.0, "ms_each": 70.0, "recommended": False},
    {"variant": "absent", "kind": "alone", "off": "there is no compiler"},
]
SVG = "{http://www.w3.org/2000/svg}"


def test_a_mark_for_each_and_a_line_for_the_control() -> None:
    root = ET.fromstring(frontier(ROWS))
    circles = list(root.iter(f"{SVG}circle"))
    assert [circle.get("fill") for circle in circles] == ["currentColor", "none"]
    assert len(list(root.iter(f"{SVG}polyline"))) == 1
    said = [title.text for title in root.iter(f"{SVG}title")]
    assert said[0] == "a<b: 91 % right, 90 ms each"
    across, down = ([float(c.get(k, "nan")) for c in circles] for k in ("cx", "cy"))
    assert across[0] > across[1]
    assert down[0] < down[1]


def test_numbers_of_marks_at_one_place_stand_apart() -> None:
    crowd = [
        {"variant": f"v{n}", "kind": "alone", "judged": 92.0, "ms_each": 90 + n / 4}
        for n in range(12)
    ]
    root = ET.fromstring(frontier([*ROWS, *crowd]))
    numbers = [t for group in root.iter(f"{SVG}g") for t in group.findall(f"{SVG}text")]
    numbers = [t for t in numbers if t.get("text-anchor") is None and (t.text or "").isdecimal()]
    assert len(numbers) == 14
    places = [(float(t.get("x", "nan")), float(t.get("y", "nan"))) for t in numbers]
    for (x, y), (other_x, other_y) in combinations(places, 2):
        assert abs(x - other_x) >= 7 or abs(y - other_y) >= 11


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 87.3), (61.2, 100), (99.9, 100), (0, 3000)])
def test_ticks_are_round_and_hold_the_range(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert 3 <= len(found) <= 8
