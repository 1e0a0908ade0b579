"""Measure a pipeline on prompts: `python -m inference.starter.evaluate --prompts 500`.

Loads the directory with plain diffusers, draws, and lets the automatic judge look. Prints a table
and, as the last line, one JSON object.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.starter import captions, scenes
from inference.starter.captions import HEADS, Writer
from inference.starter.exam import KINDS, Exam, Settings, load, sheet
from inference.starter.judge import judge
from inference.starter.scenes import Scene

__all__ = ["EXAM", "KINDS", "Settings", "draw", "judge", "load", "prompts"]

SHOWN = 96  # pictures on a contact sheet

Prompt = tuple[str, Scene]


def draw(pipeline: Any, texts: list[str], seed: int, settings: Settings) -> NDArray[np.uint8]:
    """Draw one picture per text, [N, 128, 128, 3]; picture i uses seed + i."""
    out = []
    for start in range(0, len(texts), 16):
        part = texts[start : start + 16]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        guidance = {"true_cfg_scale": settings.guidance, "negative_prompt": [""] * len(part)}
        images = pipeline(
            part, height=scenes.SIZE, width=scenes.SIZE, num_inference_steps=settings.steps,
            max_sequence_length=settings.length, generator=generators, output_type="np",
            **(guidance if settings.guidance > 1 else {}),
        ).images  # fmt: skip
        out.append(np.rint(images * 255).astype(np.uint8))
    return np.concatenate(out)


EXAM: Exam[Scene] = Exam(
    name="starter-image",
    unit="image",
    attributes=("right", "background", "count", "colour", "shape", "relation"),
    heads=HEADS,
    sample=lambda rng, count, held_out: scenes.sample_scenes(rng, count, held_out=held_out),
    plain=lambda scene, rng: captions.plain(scene, mirrored=bool(rng.random() < 0.5)),
    write=lambda rng, scene: Writer(rng).write(scene),
    draw=draw,
    judge=judge,
    sheet=lambda images: sheet(images[:SHOWN]),
)
prompts = EXAM.prompts


if __name__ == "__main__":
    EXAM.main("inference.starter.evaluate", __doc__)
