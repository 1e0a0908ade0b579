"""Measure a video pipeline on prompts: `python -m inference.starter.video.evaluate`.

Loads the directory with plain diffusers, draws, and lets the automatic judge watch. Prints a table
and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.starter.captions import ANY
from inference.starter.evaluate import KINDS, add_options, load, prepare, score, sheet, table
from inference.starter.video import captions, scenes
from inference.starter.video.captions import HEADS, Writer
from inference.starter.video.judge import judge
from inference.starter.video.scenes import Clip

ATTRIBUTES = ("right", "background", "colour", "shape", "motion", "steady")
SHOWN = 12  # clips on a contact sheet, a row each, every other frame

Prompt = tuple[str, Clip]


@dataclass(frozen=True)
class Settings:
    """How clips are drawn."""

    steps: int = 8
    guidance: float = 2.0
    length: int = 32


def prompts(kind: str, count: int, seed: int) -> list[Prompt]:
    """`count` prompts of one of KINDS with the clips they tell; deterministic by seed."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == KINDS[1]:
        return list(_free(rng, count))
    told = scenes.sample_clips(rng, count, held_out=kind == KINDS[0])
    return [(captions.plain(clip), clip) for clip in told]


def _free(rng: np.random.Generator, count: int) -> Iterator[Prompt]:
    """Random wordings of held-out clips that tell everything the judge asks for."""
    while count:
        (clip,) = scenes.sample_clips(rng, 1, held_out=True)
        caption = Writer(rng).write(clip)
        if not any(HEADS[head][label] == ANY for head, label in caption.labels.items()):
            yield caption.text, clip
            count -= 1


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


def measure(
    pipeline: Any,
    kinds: tuple[str, ...],
    count: int,
    seed: int,
    settings: Settings,
    sheet_to: Path | None,
) -> dict[str, dict[str, float]]:
    """Scores by kind of prompt; saves a contact sheet of the first kind when asked."""
    results = {}
    for kind in kinds:
        asked = prompts(kind, count, seed)
        started = time.perf_counter()
        clips = draw(pipeline, [text for text, _ in asked], seed, settings)
        seconds = time.perf_counter() - started
        verdicts = [judge(frames, clip) for frames, (_, clip) in zip(clips, asked, strict=True)]
        results[kind] = {
            **score(verdicts, ATTRIBUTES),
            "seconds_per_clip": round(seconds / count, 4),
        }
        if sheet_to and kind == kinds[0]:
            sheet_to.parent.mkdir(parents=True, exist_ok=True)
            shown = clips[:SHOWN, ::2]
            sheet(np.concatenate(list(shown)), columns=shown.shape[1]).save(sheet_to)
            for row, ((text, _), verdict) in enumerate(
                zip(asked[:SHOWN], verdicts[:SHOWN], strict=True)
            ):
                print(f"row {row}: {text}: {verdict}")
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m inference.starter.video.evaluate", description=__doc__
    )
    add_options(parser)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--guidance", type=float, default=Settings.guidance)
    parser.add_argument(
        "--length", type=int, default=Settings.length, help="max_sequence_length (tokens)"
    )
    options = parser.parse_args()
    folder = prepare(parser, options, "starter-video")
    settings = Settings(options.steps, options.guidance, options.length)
    results = measure(
        load(folder), tuple(options.kinds), options.prompts, options.seed, settings, options.sheet
    )
    print(table(results, ATTRIBUTES, "clip"))
    print(json.dumps({"eval": "starter-video", "prompts": options.prompts, "seed": options.seed,
                      "settings": asdict(settings), "results": results}))  # fmt: skip


if __name__ == "__main__":
    main()
