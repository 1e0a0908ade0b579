"""`python -m inference` draws a picture without the market, and says plainly what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from inference import starter
from inference.__main__ import main
from inference.commands.run import lora_of
from inference.engine.weights import Model
from tests.inference.clips import build_wan


def test_run_draws_and_says_what_it_saved(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_flux: Path,
    tmp_path: Path,
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
    capsys: pytest.CaptureFixture[str],
    tiny_flux: Path,
    tiny_model: Model,
) -> None:
    monkeypatch.setattr(sys, "argv", ["inference", "digest", str(tiny_flux)])
    assert main() == 0
    assert capsys.readouterr().out == f"flux {tiny_model.uri} {tiny_model.digest}\n"


def test_loras_that_ship_are_listed_with_the_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["inference", "models", "--json"])
    assert main() == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    night = listed["starter-night"]
    assert (night["family"], night["uri"]) == ("lora", "starter:starter-night")
    monkeypatch.setattr(sys, "argv", ["inference", "digest", str(starter.path("starter-night"))])
    assert main() == 0
    assert capsys.readouterr().out.split()[::2] == ["lora", night["digest"]]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--model", "no-such-model"], 1, "there are: starter-image, starter-video"),
        (["--model", "noop", "--steps", "0"], 2, "steps must be between 1 and 200"),
        (["--model", "noop", "--out", "x.tiff"], 2, "--out must end in .png or .jpg or .webp"),
        (["--model", "noop", "--out", "/no/such/x.png"], 2, "does not exist"),
        (["--model", "noop", "--out", "x.mp4"], 2, "this model makes pictures"),
        (["--model", "/"], 1, "no readable model_index.json"),
        (["--model", "noop", "--image", "/no/such.png"], 2, "--image: /no/such.png: No such file"),
        (["--model", "noop", "--image", __file__], 2, "is not a PNG, JPEG or WebP picture"),
        (["--model", "noop", "--mask", "x.png"], 2, "--mask needs --image"),
        (["--model", "noop", "--strength", "0.5"], 2, "--strength needs --image"),
        (["--model", "noop", "--frames", "0"], 2, "num_frames must be between 1 and"),
        (["--model", "noop", "--frames", "5"], 2, "num_frames is not a field of this model"),
        (["--model", "noop", "--lora", "starter:x:9"], 2, "loras must be between -4 and 4, not 9"),
        (["--model", "noop", "--lora", "/no.safetensors"], 2, "there is no file or directory /no"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
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


def test_run_begins_from_a_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given, mask, out = tmp_path / "in.jpg", tmp_path / "mask.png", tmp_path / "x.png"
    Image.new("RGB", (40, 30)).save(given)
    Image.new("L", (40, 30)).save(mask)
    arguments = ["--model", "noop", "--image", str(given), "--mask", str(mask)]
    arguments += ["--quality", "high", "--out", str(out), "--prompt", "a"]
    monkeypatch.setattr(sys, "argv", ["inference", "run", *arguments])
    assert main() == 0
    assert Image.open(out).format == "PNG"
    assert str(out) in capsys.readouterr().out


def test_a_quality_that_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--model", "noop", "--prompt", "a", "--quality", "best"]
    monkeypatch.setattr(sys, "argv", ["inference", *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    assert "invalid choice: 'best'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "where", "scale"),
    [
        ("s3://bucket/a.safetensors", "s3://bucket/a.safetensors", 1.0),
        ("s3://bucket/a.safetensors:0.8", "s3://bucket/a.safetensors", 0.8),
        ("hub:org/name:-0.5", "hub:org/name", -0.5),
        ("starter:style", "starter:style", 1.0),
    ],
)
def test_a_lora_is_an_address_and_perhaps_a_scale(text: str, where: str, scale: float) -> None:
    assert lora_of(text) == (where, scale, None)


def test_a_lora_on_this_machine_becomes_an_address(tmp_path: Path) -> None:
    file = tmp_path / "a b.safetensors"
    file.touch()
    assert lora_of(f"{file}:0.5") == (file.as_uri(), 0.5, tmp_path)
    assert lora_of(str(file)) == (file.as_uri(), 1.0, tmp_path)
    assert lora_of(str(tmp_path)) == (tmp_path.as_uri(), 1.0, tmp_path)


def test_a_lora_file_of_ones_own_is_worn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, drawn = tmp_path / "own.safetensors", []
    rng = torch.Generator().manual_seed(1)
    name = "transformer.single_transformer_blocks.0.attn.to_q"
    save_file(
        {
            f"{name}.lora_A.weight": torch.randn(4, 128, generator=rng),
            f"{name}.lora_B.weight": torch.randn(128, 4, generator=rng),
        },
        file,
    )
    for number, options in enumerate([[], ["--lora", f"{file}:0.5"]]):
        out = tmp_path / f"{number}.png"
        arguments = ["--model", "starter-image", "--prompt", "a", "--steps", "1", "--seed", "1"]
        monkeypatch.setattr(
            sys, "argv", ["inference", "run", *arguments, "--out", str(out), *options]
        )
        assert main() == 0
        drawn.append(out.read_bytes())
    assert drawn[0] != drawn[1]


def test_a_clip_is_written_as_mp4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    directory, out = build_wan(tmp_path / "wan"), tmp_path / "x.mp4"
    arguments = ["--model", str(directory), "--prompt", "a", "--frames", "5", "--fps", "4"]
    arguments += ["--width", "32", "--height", "32", "--steps", "1", "--json"]
    monkeypatch.setattr(sys, "argv", ["inference", "run", *arguments, "--out", str(out)])
    assert main() == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["videos"] == [str(out)]
    assert answer["usage"]["output_seconds"] == 1.25
    with av.open(out) as container:
        assert container.streams.video[0].frames == 5


def test_help_says_what_an_option_is_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["inference", "run", "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().out
    assert "what may be lost (default: exact)" in said
    assert "number of outputs (default: 1)" in said
    assert "default: None" not in said
    assert "default: False" not in said


@pytest.mark.parametrize("given", ["0", "-1", "some"])
def test_rounds_that_measure_nothing_are_refused_by_their_option(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["inference", "bench", f"--rounds={given}"])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert f"--rounds: a whole number from 1 up, not {given}" in capsys.readouterr().err
