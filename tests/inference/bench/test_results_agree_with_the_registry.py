"""The committed figures: their form, and that the planner recommends what they recommend."""

import json
from pathlib import Path
from typing import Any

import pytest

from inference.bench import __file__ as bench
from inference.engine.optimise import DEFAULTS, REGISTRY

FILES = sorted((Path(bench).parent / "results").glob("quality-*.json"))
FIGURES = {"judged", "lost", "at_least", "psnr_db", "ssim", "distance", "gflop", "latency_ms",
           "ms_each", "items_per_s", "time"}  # fmt: skip

PROMPTS = {"starter-image": 500, "starter-video": 64}


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_where_and_of_what_it_was_measured(path: Path) -> None:
    results = read(path)
    assert results["bench"] == "quality"
    assert results["device"]
    assert results["commit"]
    assert results["versions"]["torch"]
    for model in results["models"]:
        assert results["prompts"] >= PROMPTS[model["model"]]
        assert model["digest"].startswith("sha256:")
        assert path.with_name(f"{path.stem}-{model['model']}.svg").is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_row_has_its_figures_or_says_why_not(path: Path) -> None:
    for model in read(path)["models"]:
        for row in model["rows"]:
            assert "off" in row or set(row) >= FIGURES
            if row["kind"] != "plain" and "off" not in row:
                assert row["ok"] is True


@pytest.mark.parametrize(
    "path", [path for path in FILES if read(path)["prompts"] >= 500], ids=lambda path: path.stem
)
def test_the_registry_recommends_what_beat_fewer_steps_on_a_model(path: Path) -> None:
    """Of those that lose something: what changes no picture competes with nothing.

    Fewer than 500 prompts tell points from chance too badly to recommend anything by.
    """
    won: dict[str, bool] = {}
    for model in read(path)["models"]:
        for row in model["rows"]:
            lossy = row["kind"] == "alone" and row.get("allowed", 0) > 0
            if lossy and "recommended" in row and row["variant"] in REGISTRY:
                won[row["variant"]] = won.get(row["variant"], False) or row["recommended"]
    said = {name: REGISTRY[name].recommended for name in won}
    assert said == won


def test_every_quality_is_made_of_known_optimisations_within_what_it_may_lose() -> None:
    for quality, names in DEFAULTS.items():
        assert set(names) <= set(REGISTRY)
        if quality == "exact":
            assert all(REGISTRY[name].exact for name in names)
