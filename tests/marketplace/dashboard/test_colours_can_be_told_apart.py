"""WCAG 2.2 AA, computed from the tokens: text has 4.5:1 on its ground, edges of controls 3:1."""

import re
from pathlib import Path

import pytest

SHEET = Path(__file__).parents[3] / "marketplace" / "static" / "mercato" / "mercato.css"
GROUNDS = ("paper", "sheet", "sunk")
SHEETS = ("good-sheet", "busy-sheet", "bad-sheet", "note-sheet")
TEXT = [
    *((text, ground) for ground in GROUNDS for text in ("ink", "muted", "accent", "bad")),
    *((text, ground) for ground in SHEETS for text in ("ink", "muted", "accent")),
    *((name, f"{name}-sheet") for name in ("good", "busy", "bad", "note")),
    ("accent-strong", "paper"),
    ("accent-strong", "sheet"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("on-tag", "tag"),
]
EDGES = [(edge, ground) for ground in GROUNDS for edge in ("line-strong", "accent")]


def schemes() -> dict[str, dict[str, str]]:
    """Return the colour tokens in light and in dark; dark changes some of light's."""
    blocks = re.findall(r":root \{(.*?)\n\s*\}", SHEET.read_text(), re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6});", block)) for block in blocks)
    return {"light": light, "dark": light | dark}


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb`, 0 to 1, as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_ratio_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("pairs", "least"), [(TEXT, 4.5), (EDGES, 3.0)])
def test_each_pair_has_contrast_enough(scheme, pairs, least):
    colours = schemes()[scheme]
    ratios = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < least} == {}
