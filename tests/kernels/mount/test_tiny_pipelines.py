"""Whole pipelines of every family, with operations mounted: equal at exact, close at high.

On a CPU nothing runs that is mounted, unless it is made to: the references then stand in for
kernels, and the chains that are found are computed whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kernels import dispatch, trust
from kernels.mount.mounting import Mounting, mount
from tests.inference.clips import build_ltx, build_qwen, build_wan
from tests.inference.pipelines import build_flux, build_sd, build_sd3, build_sdxl, load_stock

STILL = {"height": 64, "width": 64}
CLIP = {"height": 32, "width": 32}
GUIDED = {"true_cfg_scale": 2.0, "negative_prompt": "x"}


@dataclass(frozen=True)
class Family:
    """How its tiny pipeline is built and called, and what of ours runs in it at each quality."""

    build: Callable[[Path], Path]
    asked: dict[str, Any]
    exact: frozenset[str]
    high: frozenset[str]


GATE, NORM, BOTH = "gated_residual", "norm", "gated_residual_norm"
GLU, ROPE, GELU, ATTEND = "gated_activation", "qk_norm_rope", "linear", "attention"
GROUP, RMS = "group_norm_silu", "rms_norm_silu"
ALL = {NORM, ATTEND}
EVERY, NONE = frozenset({GATE}), frozenset[str]()
FAMILIES = {
    "flux": Family(build_flux, STILL, EVERY, frozenset({*ALL, BOTH, ROPE, GELU, GROUP})),
    "sd3": Family(build_sd3, STILL, EVERY, frozenset({*ALL, BOTH, GELU, GROUP})),
    "qwen": Family(build_qwen, CLIP | GUIDED, EVERY, frozenset({*ALL, BOTH, ROPE, GELU, RMS})),
    "wan": Family(
        build_wan, CLIP | {"num_frames": 5}, EVERY, frozenset({*ALL, BOTH, ROPE, GELU, RMS})
    ),
    "ltx": Family(build_ltx, CLIP | {"num_frames": 9}, EVERY, frozenset({*ALL, BOTH, GELU, RMS})),
    "sd": Family(build_sd, STILL, NONE, frozenset({*ALL, BOTH, GLU, GROUP})),
    "sdxl": Family(build_sdxl, STILL, NONE, frozenset({*ALL, BOTH, GLU, GROUP})),
}


class Pipeline:
    """A stock pipeline and what is mounted on it."""

    def __init__(self, pipeline: Any, asked: dict[str, Any]) -> None:
        self.pipeline = pipeline
        self.asked = asked
        denoiser: nn.Module = getattr(pipeline, "transformer", None) or pipeline.unet
        self.models: tuple[nn.Module, ...] = (denoiser, pipeline.vae)

    def draw(self) -> torch.Tensor:
        """Return pixels of one prompt and seed."""
        generator = torch.Generator().manual_seed(0)
        drawn = self.pipeline(
            "a red circle",
            num_inference_steps=2,
            generator=generator,
            output_type="pt",
            **self.asked,
        )
        pixels: torch.Tensor = drawn[0]
        assert type(pixels) is torch.Tensor
        return pixels

    def mount(self, quality: str, *, references: bool) -> list[Mounting]:
        """Mount what `quality` allows on all models."""
        return [mount(m, quality, counting=True, references=references) for m in self.models]

    def shape(self) -> list[tuple[str, type, Any]]:
        """Return all that mounting might have changed."""
        return [
            # Video autoencoders count and remember slices in plain numbers and lists.
            (
                path,
                type(module),
                {k: v for k, v in vars(module).items() if type(v) not in (list, int)},
            )
            for model in self.models
            for path, module in model.named_modules()
        ]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def pipeline(family, tmp_path_factory):
    built = FAMILIES[family].build(tmp_path_factory.mktemp("tiny") / family)
    return Pipeline(load_stock(built), FAMILIES[family].asked)


@pytest.fixture(scope="module")
def plain(pipeline):
    return pipeline.draw()


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(dispatch, "_off", {})
    monkeypatch.setattr(trust, "_verified", set())


def operations(mountings):
    """Return what was called, and what met the eager chain and agreed with it."""
    called = {op for mounting in mountings for op, _shape in mounting.tallies}
    return called | {op for op, _key in trust._verified}


@pytest.mark.parametrize("quality", ["exact", "high"])
def test_a_cpu_without_kernels_gives_the_same_bits(pipeline, plain, quality):
    mountings = pipeline.mount(quality, references=False)
    try:
        assert torch.equal(pipeline.draw(), plain)
    finally:
        for mounting in mountings:
            mounting.undo()


def test_chains_computed_whole_at_exact_give_the_same_bits(pipeline, plain, family):
    mountings = pipeline.mount("exact", references=True)
    try:
        assert torch.equal(pipeline.draw(), plain)
    finally:
        for mounting in mountings:
            mounting.undo()
    assert operations(mountings) == FAMILIES[family].exact
    assert dispatch._off == {}


def test_chains_computed_whole_at_high_stay_within_their_bound(pipeline, plain, family):
    mountings = pipeline.mount("high", references=True)
    try:
        pipeline.draw()  # every shape is met
        drawn = pipeline.draw()
    finally:
        for mounting in mountings:
            mounting.undo()
    assert operations(mountings) >= FAMILIES[family].high
    assert dispatch._off == {}
    assert (drawn - plain).abs().max() <= 1e-4 * plain.abs().max()


def test_undo_restores_the_modules_exactly(pipeline, plain):
    before = pipeline.shape()
    mountings = pipeline.mount("high", references=True)
    pipeline.draw()
    for mounting in mountings:
        mounting.undo()
    after = pipeline.shape()
    assert [(path, kind) for path, kind, _ in after] == [(path, kind) for path, kind, _ in before]
    for (path, _, held), (_, _, was) in zip(after, before, strict=True):
        assert held.keys() == was.keys(), path
        assert all(held[name] is was[name] for name in was), path
    assert torch.equal(pipeline.draw(), plain)
