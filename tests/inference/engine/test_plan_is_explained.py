"""The planner keeps to the quality, makes the model fit, and says why, for any device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine import memory_ladder, planner, roofs
from inference.engine.device import Device
from inference.engine.errors import DeviceMemoryError
from inference.engine.families import get_family
from inference.engine.optimisation_specs import Needs, Speedup
from inference.engine.optimise.base import Optimisation
from inference.engine.plan_command import add_command
from inference.engine.shapes import multiples
from inference.engine.sizes import get
from tests.inference.clips import build_wan
from tests.inference.engine.test_cost_is_counted import architecture, shape_of
from tests.inference.pipelines import build_flux, build_sd, build_sd3

TWICE = Speedup(matmul=2, attention=2, elementwise=2, launch=2)


def spec(name: str, *, loss: float = 0.0, **gains: Any) -> Optimisation:
    """One that is planned with and never put on."""
    return Optimisation(
        name=name,
        summary=name,
        stage="denoise",
        loss=loss,
        order=0,
        apply=lambda _loaded: lambda: None,
        **gains,
    )


SOME = (
    spec("compile", denoise=Speedup(elementwise=3.0, launch=4.0)),
    spec("fp8", loss=0.5, denoise=Speedup(matmul=1.5), memory={"denoiser": 0.5}),
    spec("sparse", loss=1.5, denoise=Speedup(attention=4.0)),
    spec("cache", loss=1.0, denoise=Speedup(whole=1.6), recommended=False),
)
CANDIDATES = {
    "exact": ("compile", "fp8"),
    "high": ("compile", "fp8"),
    "fast": ("compile", "fp8", "sparse", "cache"),
}


def plan(
    specs: Sequence[Optimisation] = SOME,
    *,
    name: str = "flux-dev",
    device: str = "h100",
    quality: str = "exact",
    memory_bytes: float | None = None,
) -> planner.Plan:
    model = get(name)
    asked = planner.Question(
        family=model.family,
        architecture=architecture(name),
        roof=roofs.roof_of(device),
        shape=shape_of(name),
        specs=specs,
        candidates=CANDIDATES
        if specs is SOME
        else {key: [each.name for each in specs] for key in CANDIDATES},
        steps=model.steps,
        guided=model.guided,
        quality=quality,
    )
    return planner.plan(name, asked, memory_bytes=memory_bytes)


def names(found: planner.Plan) -> set[str]:
    return {choice.name for choice in found.profile}


def reasons(found: planner.Plan) -> dict[str, str]:
    return {choice.name: choice.reason for choice in found.considered if not choice.picked}


def test_exact_loses_nothing() -> None:
    found = plan()
    assert found.loss == 0
    assert "compile" in names(found)
    assert reasons(found)["fp8"] == "not exact (declares 0.5 points)"


def test_lower_quality_is_faster_and_keeps_to_its_loss() -> None:
    exact, high, fast = (plan(quality=quality) for quality in ("exact", "high", "fast"))
    assert exact.predicted_seconds > high.predicted_seconds > fast.predicted_seconds
    assert exact.loss == 0 < high.loss < fast.loss
    assert reasons(high)["sparse"] == "not on at quality high unless a profile names it"


def test_what_does_not_beat_fewer_steps_is_never_picked() -> None:
    found = plan(quality="fast")
    assert reasons(found)["cache"] == "does not beat fewer steps in the same time"


def test_one_of_a_group_is_picked_and_it_is_the_faster() -> None:
    slow = spec("slow", denoise=Speedup(whole=1.2), group="attention")
    fast = spec("fast", denoise=TWICE, group="attention")
    found = plan([slow, fast])
    assert names(found) == {"fast"}
    assert reasons(found) == {"slow": "fast does the same"}


def test_what_the_device_lacks_is_named() -> None:
    eight = spec("eight", denoise=TWICE, needs=Needs(capability=(8, 9)))
    assert names(plan([eight])) == {"eight"}
    assert reasons(plan([eight], device="a100")) == {
        "eight": "it needs a device of compute capability 8.9 or more"
    }


def test_a_gain_counts_once_for_its_own_kind_of_work() -> None:
    stock = plan([])
    halved = plan([spec("all", denoise=TWICE)])
    assert halved.step_seconds == pytest.approx(stock.step_seconds / 2)
    assert halved.decode_seconds == stock.decode_seconds
    assert stock.predicted_seconds == pytest.approx(stock.stock_seconds)


def test_a_model_that_fits_falls_back_on_nothing() -> None:
    found = plan([])
    assert found.fallen_back == ()
    assert found.steps_of_fallback[0] == memory_ladder.OFFLOAD_TEXT


def test_less_memory_takes_the_gentlest_rungs_that_suffice() -> None:
    need = plan([]).predicted_peak_bytes
    text = plan([], memory_bytes=need - 5e9)
    assert text.fallen_back == (memory_ladder.OFFLOAD_TEXT,)
    assert text.transfer_seconds > 0
    model = plan([], memory_bytes=26e9)
    assert model.fallen_back == (memory_ladder.OFFLOAD_MODEL,)
    for found in (text, model):
        assert found.predicted_peak_bytes <= found.memory_bytes


def test_a_video_is_decoded_in_tiles_first() -> None:
    need = plan([], name="wan2.1-1.3b").predicted_peak_bytes
    found = plan([], name="wan2.1-1.3b", memory_bytes=need - 1e9)
    assert found.fallen_back == (memory_ladder.VAE_TILING,)


def test_weights_are_quantised_last_and_only_where_quality_allows() -> None:
    eight = spec("eight", loss=0.5, memory={"denoiser": 0.5})
    with pytest.raises(
        DeviceMemoryError, match=r"flux-dev at 1024x1024 needs .* bytes are missing"
    ):
        plan([eight], memory_bytes=16e9)
    found = plan([eight], memory_bytes=16e9, quality="high")
    assert "eight" in names(found)
    assert found.predicted_peak_bytes <= 16e9


def test_the_message_says_how_many_bytes_are_missing() -> None:
    with pytest.raises(DeviceMemoryError) as first:
        plan([], memory_bytes=10e9)
    with pytest.raises(DeviceMemoryError) as second:
        plan([], memory_bytes=9e9)
    missing = [
        int(str(caught.value).split(": ")[1].split()[0].replace(",", ""))
        for caught in (first, second)
    ]
    assert missing[1] - missing[0] == pytest.approx(1e9, abs=2)


def test_small_pictures_share_a_step_and_large_ones_do_not() -> None:
    assert plan([], name="sd1.5").batch > 1
    assert plan([], name="wan2.1-1.3b").batch == 1


def test_every_optimisation_is_explained_in_one_line() -> None:
    text = planner.explain(plan())
    for each in SOME:
        assert sum(line.startswith(f"{each.name} ") for line in text.splitlines()) == 1
    assert "time " in text
    assert "memory " in text


def test_what_gives_no_figures_is_on_and_says_so() -> None:
    (choice,) = plan([spec("plain")]).considered
    assert (choice.picked, choice.reason) == (True, "exact; no figures of its gain")


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["plan", *arguments])
    code: int = parsed.command(parsed)
    return code


def test_the_command_plans_for_a_device_that_is_not_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = ("--width", "1024", "--height", "1024", "--quality", "high")
    assert command("--model", "flux-dev", "--device", "h100", *size) == 0
    assert "flux-dev on H100 SXM, quality high" in capsys.readouterr().out
    assert command("--model", "flux-dev", "--device", "h100", "--json") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 28


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--model", "nope"), 2, "no sizes are known for 'nope'"),
        (("--model", "sdxl", "--device", "tpu"), 2, "no roof is known for 'tpu'"),
        (("--model", "sdxl", "--device", "h100", "--quality", "best"), 2, "quality must be one"),
        (("--model", "sdxl", "--device", "h100", "--width", "0"), 2, "width must be 1 or more"),
        (("--model", "sdxl", "--device", "h100", "--memory-gb", "2"), 1, "bytes are missing"),
    ],
)
def test_the_command_refuses_in_one_line(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == code
    written = [line for line in capsys.readouterr().err.splitlines() if line[:10] == "inference:"]
    assert len(written) == 1
    assert message in written[0]


@pytest.mark.parametrize(
    ("model", "given", "says"),
    [
        ("flux-dev", ["--width", "1001"], "width must be a multiple of 16 up to 4096, not 1001"),
        ("sdxl", ["--height", "1004"], "height must be a multiple of 8 up to 4096, not 1004"),
        ("wan2.1-1.3b", ["--num-frames", "80"], "num_frames must be 4 times a number, plus 1"),
        ("flux-dev", ["--width", "160000"], "width must be a multiple of 16 up to 4096"),
    ],
)
def test_a_size_that_the_model_cannot_draw_is_named_before_memory_is(
    model: str, given: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--model", model, "--device", "4090", "--memory-gb", "1", *given) == 2
    assert says in capsys.readouterr().err


def test_sizes_are_multiples_of_what_the_family_says(tmp_path: Path) -> None:
    for name, build in (("flux", build_flux), ("sd", build_sd), ("sd3", build_sd3)):
        device = Device(device=torch.device("cpu"), dtype=torch.float32, name="", memory_bytes=0)
        family = get_family(name)
        pipeline = family.read(build(tmp_path / name), device)
        side, _ = multiples(getattr(pipeline, "transformer", None) or pipeline.unet, pipeline.vae)
        assert side == family.size_multiple(pipeline)
    family = get_family("wan")
    pipeline = family.read(build_wan(tmp_path / "wan"), device)
    found = multiples(pipeline.transformer, pipeline.vae)
    assert found == (family.size_multiple(pipeline), family.frame_multiple(pipeline))
