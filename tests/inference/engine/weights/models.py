"""Writes directories that pass for pipelines: real files, as large as a test wants, no torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.38.0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "image_encoder": [None, None],
}


def write_model(directory: Path, mib: float = 20.0, seed: int = 0) -> Path:
    """Write a model whose one large file has `mib` MiB and a bit, so a last chunk that is short."""
    for folder in ("scheduler", "transformer", "tokenizer"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    _write(directory / "model_index.json", INDEX)
    _write(
        directory / "scheduler" / "scheduler_config.json",
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    )
    _write(
        directory / "transformer" / "config.json",
        {"_class_name": "FluxTransformer2DModel", "seed": seed},
    )
    _write(directory / "tokenizer" / "vocab.json", {"a": 0})
    (directory / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    generator = np.random.default_rng(seed)
    body = generator.integers(0, 256, int(mib * 2**20), dtype=np.uint8)
    save_file({"weight": body}, directory / "transformer" / "diffusion_pytorch_model.safetensors")
    return directory


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1))
