"""Measure a video pipeline on prompts: `python -m inference.starter.video.evaluate`.

Loads the directory with plain diffusers, draws, and lets the automatic judge watch. Prints a table
and, as the last line, one JSON object.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from inference.starter.exam import KINDS, Exam, Settings, sheet
from inference.starter.video import captions, scenes
from inference.starter.video.captions import HEADS, Writer
from inference.starter.video.judge import judge
from inference.starter.video.scenes import Clip

__all__ = ["EXAM", "KINDS", "Settings", "draw", "judge", "prompts"]

SHOWN = 12  # clips on a contact sheet, a row each, every other frame


def draw(pipeline: Any, texts: list[str], seed: int, settings: Settings) -> NDArray[np.uint8]:
    """Draw one clip per text, [N, 17, 64, 64, 3]; clip i uses seed + i."""
    out = []
    for start in range(0, len(texts), 8):
        part = texts[start : start + 8]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        frames = pipeline(
            part, height=scenes.SIZE, width=scenes.SIZE, num_frames=scenes.FRAMES,
            num_inference_steps=settings.steps, guidance_scale=settings.guidance,
            max_sequence_length=settings.length, generator=generators, output_type="np",
        ).frames  # fmt: skip
        out.append(np.rint(frames * 255).astype(np.uint8))
    return np.concatenate(out)


def _rows(clips: NDArray[np.uint8]) -> Image.Image:
    shown = clips[:SHOWN, ::2]
    return sheet(np.concatenate(list(shown)), columns=shown.shape[1])


EXAM: Exam[Clip] = Exam(
    name="starter-video",
    unit="clip",
    attributes=("right", "background", "colour", "shape", "motion", "steady"),
    heads=HEADS,
    sample=lambda rng, count, held_out: scenes.sample_clips(rng, count, held_out=held_out),
    plain=lambda clip, _rng: captions.plain(clip),
    write=lambda rng, clip: Writer(rng).write(clip),
    draw=draw,
    judge=judge,
    sheet=_rows,
)
prompts = EXAM.prompts


if __name__ == "__main__":
    EXAM.main("inference.starter.video.evaluate", __doc__)
