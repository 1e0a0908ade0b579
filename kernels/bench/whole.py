"""Measures a whole step and a whole decode on a CPU, with and without what is mounted, in turns."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kernels.bench.command import NotMeasured
from kernels.bench.measure import commit, device_name
from kernels.bench.paired import ratios
from kernels.cpu import compiled, table
from kernels.mount.mounting import mount

RESULTS = Path(__file__).with_name("cpu_whole.jsonl")
ROUNDS = 15
WORDS = 32
CLIP = (5, 8, 8)
"""Latent frames, height and width of a clip of the shipped video model."""
Inputs = dict[str, Any]
EXACT = {"part": "step", "rows": 2, "dtype": "float32"}
"""What is measured at quality exact besides, where results are equal to the bit."""


def _flux(config: Any, rows: int, side: int, dtype: torch.dtype) -> Inputs:
    return {
        "hidden_states": torch.randn(rows, side * side, config.in_channels).to(dtype),
        "encoder_hidden_states": torch.randn(rows, WORDS, config.joint_attention_dim).to(dtype),
        "pooled_projections": torch.randn(rows, config.pooled_projection_dim).to(dtype),
        "timestep": torch.full((rows,), 0.5).to(dtype),
        "img_ids": torch.cartesian_prod(torch.arange(1), torch.arange(side), torch.arange(side))
        .view(-1, 3)
        .float(),
        "txt_ids": torch.zeros(WORDS, 3),
    }


def _wan(config: Any, rows: int, _side: int, dtype: torch.dtype) -> Inputs:
    return {
        "hidden_states": torch.randn(rows, config.in_channels, *CLIP).to(dtype),
        "encoder_hidden_states": torch.randn(rows, WORDS, config.text_dim).to(dtype),
        "timestep": torch.full((rows,), 500),
    }


PASSES: dict[str, Callable[..., Inputs]] = {
    "FluxTransformer2DModel": _flux,
    "WanTransformer3DModel": _wan,
}


@torch.inference_mode()
def measure(directory: Path, out: Path) -> Iterator[str]:
    """Measure the denoiser and the decoder of a pipeline; append to `out` and tell in lines.

    Raises NotMeasured where there is no pipeline of a family that is known here.
    """
    if not (directory / "model_index.json").is_file():
        raise NotMeasured(f"{directory} has no model_index.json")
    pipeline = importlib.import_module("diffusers").DiffusionPipeline.from_pretrained(directory)
    kind = type(getattr(pipeline, "transformer", None)).__name__
    if kind not in PASSES:
        raise NotMeasured(f"{kind} is not one of {', '.join(PASSES)}")
    about = {
        "device": device_name(torch.device("cpu")),
        "capability": table.capability(),
        "torch": torch.__version__,
        "compiles": compiled.wanted(),
        "commit": commit(),
    }
    with out.open("a") as file:
        for said, plain, run in _subjects(pipeline, kind):
            for quality in ("exact", "high") if said == EXACT else ("high",):
                row = {"model": directory.name, **said, "quality": quality}
                row |= compare(plain, run, quality)
                file.write(json.dumps(row | about) + "\n")
                yield json.dumps(row)


def _subjects(pipeline: Any, kind: str) -> Iterator[tuple[dict[str, Any], nn.Module, Any]]:
    """Name a part, and give its model and what runs it."""
    side = (getattr(pipeline.vae.config, "sample_size", None) or 128) // 16
    for dtype in (torch.float32, torch.bfloat16):
        for rows in (2, 16):
            model = copy.deepcopy(pipeline.transformer).to(dtype)
            inputs = PASSES[kind](model.config, rows, side, dtype)
            said = {"part": "step", "rows": rows, "dtype": str(dtype).removeprefix("torch.")}
            yield said, model, lambda m, given=inputs: m(**given, return_dict=False)[0]
    channels = pipeline.transformer.config.in_channels
    for last in (False, True):
        vae = copy.deepcopy(pipeline.vae)
        if last:
            layout = {4: torch.channels_last, 5: torch.channels_last_3d}
            for weight in vae.parameters():
                if weight.ndim in layout:
                    weight.data = weight.data.contiguous(memory_format=layout[weight.ndim])
        shape = (1, channels, *CLIP) if kind.startswith("Wan") else (
            1, vae.config.latent_channels, 2 * side, 2 * side,
        )  # fmt: skip
        latents = torch.randn(shape)
        said = {"part": "decode", "rows": 1, "dtype": "float32", "channels_last": last}
        yield said, vae, lambda m, given=latents: m.decode(given, return_dict=False)[0]


def compare(plain: nn.Module, run: Callable[[nn.Module], torch.Tensor], quality: str) -> Inputs:
    """Time a model as it is and mounted; what is compiled for it is waited for before."""
    mounted = copy.deepcopy(plain)
    mounting = mount(mounted, quality, references=True)
    want = run(plain)
    got = run(mounted)
    while compiled.busy():  # calls order what is compiled one after the other
        compiled.wait()
        got = run(mounted)
    found = ratios(lambda: run(mounted), lambda: run(plain), ROUNDS)
    largest = want.abs().max().item()
    mounting.undo()
    return {
        **found,
        "sites": len(mounting.sites),
        "equal": torch.equal(got, want),
        "error": float(f"{(got - want).abs().max().item() / largest:.3g}"),
    }
