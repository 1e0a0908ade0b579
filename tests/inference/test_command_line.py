"""`python -m inference` draws a picture without the market, and says plainly what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from inference.__main__ import main
from inference.engine.weights import Model


def test_run_draws_and_says_what_it_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tiny_flux: Path, tmp_path: Path
) -> None:
    arguments = ["run", "--model", str(tiny_flux), "--prompt", "a red circle", "--steps", "2"]
    arguments += ["--seed", "3", "--count", "2", "--out", str(tmp_path / "x.png"), "--json"]
    monkeypatch.setattr(sys, "argv", ["inference", *arguments])
    assert main() == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["images"] == [str(tmp_path / "x-0.png"), str(tmp_path / "x-1.png")]
    assert answer["seed"] == 3
    assert answer["timings_ms"]["denoise"] > 0
    assert [Image.open(path).size for path in answer["images"]] == [(64, 64), (64, 64)]


def test_digest_prints_what_a_catalogue_registers(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tiny_flux: Path,
    tiny_model: Model,
) -> None:
    monkeypatch.setattr(sys, "argv", ["inference", "digest", str(tiny_flux)])
    assert main() == 0
    assert capsys.readouterr().out == f"flux {tiny_model.uri} {tiny_model.digest}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--model", "no-such-model"], 1, "no model named 'no-such-model' ships"),
        (["--model", "noop", "--steps", "0"], 2, "steps must be between 1 and 200"),
        (["--model", "noop", "--out", "x.jpg"], 2, "--out must end in .png"),
        (["--model", "noop", "--out", "/no/such/x.png"], 2, "does not exist"),
        (["--model", "/"], 1, "no readable model_index.json"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["inference", "run", "--prompt", "a", *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
