"""Measure a pipeline on prompts: `python -m inference.starter.evaluate --prompts 500`.

Loads the directory with plain diffusers, draws, and lets the automatic judge look. Prints a table
and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from inference import starter
from inference.starter import captions, scenes
from inference.starter.captions import ANY, HEADS, Writer
from inference.starter.judge import judge
from inference.starter.loop import keep_memory
from inference.starter.scenes import Scene

ATTRIBUTES = ("right", "background", "count", "colour", "shape", "relation")
KINDS = ("held-out", "held-out, free wording", "training")

Prompt = tuple[str, Scene]


@dataclass(frozen=True)
class Settings:
    """How pictures are drawn; the defaults are those of the model card."""

    steps: int = 8
    cfg: float = 2.0
    length: int = 32
    size: int = scenes.SIZE


def prompts(kind: str, count: int, seed: int) -> list[Prompt]:
    """`count` prompts of one of KINDS with the scenes they tell; deterministic by seed."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == KINDS[1]:
        return list(_free(rng, count))
    told = scenes.sample_scenes(rng, count, held_out=kind == KINDS[0])
    return [(captions.plain(scene, mirrored=bool(rng.random() < 0.5)), scene) for scene in told]


def _free(rng: np.random.Generator, count: int) -> Iterator[Prompt]:
    """Random wordings of held-out scenes that tell everything the judge asks for."""
    while count:
        (scene,) = scenes.sample_scenes(rng, 1, held_out=True)
        caption = Writer(rng).write(scene)
        if not any(HEADS[head][label] == ANY for head, label in caption.labels.items()):
            yield caption.text, scene
            count -= 1


def draw(pipeline: Any, texts: list[str], seed: int, settings: Settings) -> NDArray[np.uint8]:
    """Draw one picture per text, [N, size, size, 3]; picture i uses seed + i."""
    out = []
    for start in range(0, len(texts), 16):
        part = texts[start : start + 16]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        guidance = {"true_cfg_scale": settings.cfg, "negative_prompt": [""] * len(part)}
        images = pipeline(
            part, height=settings.size, width=settings.size, num_inference_steps=settings.steps,
            max_sequence_length=settings.length, generator=generators, output_type="np",
            **(guidance if settings.cfg > 1 else {}),
        ).images  # fmt: skip
        out.append(np.rint(images * 255).astype(np.uint8))
    return np.concatenate(out)


def score(verdicts: Sequence[object], attributes: tuple[str, ...] = ATTRIBUTES) -> dict[str, float]:
    """Share of verdicts that hold, for each attribute."""
    return {
        name: round(float(np.mean([getattr(v, name) for v in verdicts])), 4) for name in attributes
    }


def sheet(images: NDArray[np.uint8], columns: int = 12) -> Image.Image:
    """Contact sheet of [N, H, W, 3]; N is cut to full rows."""
    rows = max(1, len(images) // columns)
    columns = min(columns, len(images))
    lines = [np.concatenate(list(images[r * columns : (r + 1) * columns]), 1) for r in range(rows)]
    return Image.fromarray(np.concatenate(lines))


def table(results: dict[str, dict[str, float]], attributes: tuple[str, ...], unit: str) -> str:
    """Scores of `measure` as lines of text; `unit` is what one prompt gives."""
    lines = [
        f"{'prompts':26}" + "".join(f"{name:>12}" for name in attributes) + f"{'s/' + unit:>10}"
    ]
    for kind, row in results.items():
        cells = "".join(f"{100 * row[name]:11.1f}%" for name in attributes)
        lines.append(f"{kind:26}{cells}{row[f'seconds_per_{unit}']:10.3f}")
    return "\n".join(lines)


def load(folder: Path) -> Any:
    """The directory as a stock pipeline, quiet and in fp32."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


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
        images = draw(pipeline, [text for text, _ in asked], seed, settings)
        seconds = time.perf_counter() - started
        verdicts = [judge(image, scene) for image, (_, scene) in zip(images, asked, strict=True)]
        results[kind] = {**score(verdicts), "seconds_per_image": round(seconds / count, 4)}
        if sheet_to and kind == kinds[0]:
            sheet_to.parent.mkdir(parents=True, exist_ok=True)
            sheet(images[:96]).save(sheet_to)
            for index, ((text, _), verdict) in enumerate(zip(asked[:96], verdicts, strict=False)):
                if not verdict.right:
                    print(f"wrong: row {index // 12} column {index % 12}: {text}: {verdict}")
    return results


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every starter model's evaluation takes."""
    parser.add_argument(
        "--dir", type=Path, default=None, help="pipeline directory (default: as shipped)"
    )
    parser.add_argument("--prompts", type=int, default=500, help="prompts of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--sheet", type=Path, help="save a contact sheet of the first kind here")
    parser.add_argument("--threads", type=int, default=2)


def prepare(parser: argparse.ArgumentParser, options: argparse.Namespace, name: str) -> Path:
    """Set threads and memory up; the directory to measure, as shipped unless --dir is given."""
    folder: Path = options.dir or starter.path(name)
    if not (folder / "model_index.json").is_file():
        parser.error(f"--dir {folder}: no model_index.json there")
    torch.set_num_threads(options.threads)
    keep_memory()
    return folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m inference.starter.evaluate", description=__doc__
    )
    add_options(parser)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument(
        "--cfg", type=float, default=Settings.cfg, help="true_cfg_scale; above 1 turns it on"
    )
    parser.add_argument(
        "--length", type=int, default=Settings.length, help="max_sequence_length (T5 tokens)"
    )
    options = parser.parse_args()
    folder = prepare(parser, options, "starter-image")
    settings = Settings(options.steps, options.cfg, options.length)
    results = measure(
        load(folder), tuple(options.kinds), options.prompts, options.seed, settings, options.sheet
    )
    print(table(results, ATTRIBUTES, "image"))
    print(json.dumps({"eval": "starter-image", "prompts": options.prompts, "seed": options.seed,
                      "settings": asdict(settings), "results": results}))  # fmt: skip


if __name__ == "__main__":
    main()
