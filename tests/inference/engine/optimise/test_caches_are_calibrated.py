"""TeaCache and MagCache go by what was measured of these very weights, row by row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from inference import starter
from inference.__main__ import _parser
from inference.engine.errors import InvalidProfileError
from inference.engine.loaded import Loaded
from inference.engine.optimise import REGISTRY, calibrated, mount, put_on, take_off
from inference.engine.optimise.calibrate import calibrate
from inference.engine.profile import Profile
from inference.engine.request import GenerationRequest
from inference.engine.weights import digest_of
from tests.inference.engine.optimise.drawing import begin, distance, latents, load

NAMES = ("teacache", "magcache")
EAGER = {"teacache": {"threshold": 1e-9}, "magcache": {"threshold": 1e-9}}
LAZY = {"teacache": {"threshold": 1e9}, "magcache": {"threshold": 1e9, "most": 99, "retain": 0.2}}


@pytest.fixture(params=["flux", "sd3", "wan"])
def loaded(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Loaded:
    """A tiny pipeline that has been calibrated."""
    monkeypatch.setenv("ENGINE_CALIBRATION_DIR", str(tmp_path / "calibration"))
    loaded = load(request.param, tmp_path / "model")
    loaded.digest = digest_of(tmp_path / "model")
    calibrated.save(_measured(loaded), calibrated.directory())
    return loaded


def _measured(loaded: Loaded) -> calibrated.Calibration:
    size: dict[str, Any] = {"width": 64, "height": 64}
    if loaded.family.frames is not None:
        size = {"width": 64, "height": 32, "num_frames": 9}
    requests = [GenerationRequest(prompt=text, guidance=3.0, **size) for text in ("a", "red")]
    return calibrate(loaded, requests, (4, 8), lambda _line: None)


def _on(loaded: Loaded, name: str, **options: Any) -> None:
    assert REGISTRY[name].missing(loaded) is None
    put_on(loaded, REGISTRY[name], options)


def test_what_was_measured_is_read_again(loaded: Loaded) -> None:
    found = calibrated.find(loaded)
    assert isinstance(found, calibrated.Calibration)
    assert found == calibrated.Calibration.from_json(found.to_json())
    assert found.denoiser == type(loaded.denoiser).__name__
    assert set(found.magnitudes) == {"positive", "negative"}
    assert len(found.times) == 8
    assert 0 < found.low < found.high


@pytest.mark.parametrize("name", NAMES)
def test_without_room_for_error_nothing_changes(loaded: Loaded, name: str) -> None:
    before = latents(begin(loaded))
    _on(loaded, name, **EAGER[name])
    assert distance(latents(begin(loaded)), before) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_batch_decide_for_themselves(loaded: Loaded, name: str) -> None:
    before = latents(begin(loaded, (4, 9, 6)))
    found = calibrated.find(loaded)
    assert isinstance(found, calibrated.Calibration)
    _on(loaded, name, threshold=2 * found.high if name == "teacache" else 0.3)
    together = latents(begin(loaded, (4, 9, 6)))
    alone = [latents([sample])[0] for sample in begin(loaded, (4, 9, 6))]
    assert distance(together, alone) < 1e-4
    assert distance(together, before) > 1e-4
    take_off(loaded)
    assert distance(latents(begin(loaded, (4, 9, 6))), before) == 0


@pytest.mark.parametrize(("name", "steps"), [("teacache", [0, 7]), ("magcache", [0, 1, 7])])
def test_a_skipped_step_runs_no_block(loaded: Loaded, name: str, steps: list[int]) -> None:
    _on(loaded, name, **LAZY[name])
    (sample,) = begin(loaded, (8,))
    ran: list[int] = []
    blocks = getattr(loaded.denoiser, "transformer_blocks", None) or loaded.denoiser.blocks
    attention = getattr(blocks[0], "attn", None) or blocks[0].attn1
    attention.register_forward_hook(lambda *_: ran.append(sample.step))
    latents([sample])
    assert ran == steps


def test_they_do_not_mind_that_modulation_was_computed_before(loaded: Loaded) -> None:
    _on(loaded, "teacache", threshold=0.3)
    before = latents(begin(loaded, (4, 9, 6)))
    _on(loaded, "precompute")
    assert distance(latents(begin(loaded, (4, 9, 6))), before) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_with_a_calibration_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ENGINE_CALIBRATION_DIR", str(tmp_path))
    loaded = load("flux", tmp_path / "model")
    optimisation = REGISTRY[name]
    assert optimisation.missing(loaded) == (
        "the weights have no digest to know their calibration by"
    )
    loaded.digest = digest_of(tmp_path / "model")
    mount(loaded, Profile(quality="fast", optimisations={name: {}}))
    problem = "it is not calibrated for these weights: run python -m inference calibrate WEIGHTS"
    assert loaded.notes == [f"{name} is off: {problem}"]
    good = _measured(loaded)
    path = calibrated.save(dataclasses.replace(good, denoiser="Another"), tmp_path)
    assert optimisation.missing(loaded) == f"the calibration {path} is of a Another"
    other = dataclasses.replace(good, digest="sha256:" + "0" * 64)
    path.write_text(other.to_json())
    said = optimisation.missing(loaded)
    assert said == f"the calibration {path} is of other weights, {other.digest}"
    for text, wrong in (
        ("{", "it is no JSON"),
        ("[]", "it is not of format 1"),
        ('{"format": 1}', "it lacks or mistypes a field ('teacache')"),
        (good.to_json().replace('"low": ', '"low": 1e999, "was": '), "not a finite number"),
    ):
        path.write_text(text)
        said = optimisation.missing(loaded)
        assert said is not None
        assert str(path) in said
        assert wrong in said


def test_options_are_checked(loaded: Loaded) -> None:
    for name, option, value in (
        ("teacache", "threshold", 0),
        ("magcache", "most", 0),
        ("magcache", "retain", 1.5),
    ):
        with pytest.raises(InvalidProfileError, match=f"optimisations.{name}: "):
            put_on(loaded, REGISTRY[name], {option: value})


def test_the_command_measures_and_says_where(
    tiny_flux: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--prompts", "1", "--steps", "3", "--width", "64", "--height", "64"]
    line = ["calibrate", str(tiny_flux), *options, "--out", str(tmp_path)]
    arguments = _parser().parse_args(line)
    assert arguments.command(arguments) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / calibrated.file_name(digest_of(tiny_flux))
    assert calibrated.Calibration.from_json(path.read_text()).steps == (3,)


def test_the_image_model_that_ships_is_calibrated() -> None:
    """If this fails, its weights are new: `python -m inference calibrate starter-image --out …`."""
    digest = digest_of(starter.path("starter-image"))
    path = calibrated.SHIPPED / calibrated.file_name(digest)
    assert calibrated.Calibration.from_json(path.read_text()).digest == digest
