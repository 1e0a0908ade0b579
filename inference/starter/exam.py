"""Asks a starter model what it was not taught, and has its judge look: the same for all of them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from inference import starter
from inference.starter.captions import ANY, Caption
from inference.starter.loop import keep_memory

KINDS = ("held-out", "held-out, free wording", "training")

Told = TypeVar("Told")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Settings:
    """How a model is asked to draw; the defaults are those of the model cards."""

    steps: int = 8
    guidance: float = 2.0
    length: int = 32


@dataclass(frozen=True, kw_only=True)
class Exam(Generic[Told]):
    """What one model is asked, by texts that each tell a `Told`, and who judges the answers.

    `sample(rng, count, held_out)` gives truths, `plain(told, rng)` a text that says all of one in
    the standard wording, `write(rng, told)` one in any wording, with the labels of `heads`.
    `draw(pipeline, texts, seed, settings)` answers, one of each text, the one at i from seed + i.
    `judge(drawn, told)` gives a verdict with `attributes`. `unit` is what one answer is called.
    """

    name: str
    unit: str
    attributes: tuple[str, ...]
    heads: Mapping[str, Sequence[str]]
    sample: Callable[[np.random.Generator, int, bool], list[Told]]
    plain: Callable[[Told, np.random.Generator], str]
    write: Callable[[np.random.Generator, Told], Caption]
    draw: Callable[[Any, list[str], int, Settings], Pixels]
    judge: Callable[[Pixels, Told], object]
    sheet: Callable[[Pixels], Image.Image]

    def prompts(self, kind: str, count: int, seed: int) -> list[tuple[str, Told]]:
        """`count` prompts of one of KINDS with what they tell; deterministic by seed."""
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        if kind == KINDS[1]:
            return list(self._free(rng, count))
        truths = self.sample(rng, count, kind == KINDS[0])
        return [(self.plain(told, rng), told) for told in truths]

    def _free(self, rng: np.random.Generator, count: int) -> Iterator[tuple[str, Told]]:
        """Random wordings of held-out truths that tell everything the judge asks for."""
        while count:
            (told,) = self.sample(rng, 1, True)
            caption = self.write(rng, told)
            if all(self.heads[head][label] != ANY for head, label in caption.labels.items()):
                yield caption.text, told
                count -= 1

    def measure(
        self,
        pipeline: Any,
        kinds: Sequence[str],
        count: int,
        seed: int,
        settings: Settings,
        sheet_to: Path | None,
    ) -> dict[str, dict[str, float]]:
        """Scores by kind of prompt; saves a contact sheet of the first kind when asked."""
        results = {}
        for kind in kinds:
            asked = self.prompts(kind, count, seed)
            started = time.perf_counter()
            drawn = self.draw(pipeline, [text for text, _ in asked], seed, settings)
            seconds = time.perf_counter() - started
            verdicts = [self.judge(one, told) for one, (_, told) in zip(drawn, asked, strict=True)]
            results[kind] = {
                **score(verdicts, self.attributes),
                f"seconds_per_{self.unit}": round(seconds / count, 4),
            }
            if sheet_to and kind == kinds[0]:
                sheet_to.parent.mkdir(parents=True, exist_ok=True)
                self.sheet(drawn).save(sheet_to)
                for index, ((text, _), verdict) in enumerate(zip(asked, verdicts, strict=True)):
                    print(f"{self.unit} {index}: {text}: {verdict}")
        return results

    def main(self, module: str, about: str | None) -> None:
        """Command line of `module`."""
        parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
        folder, options = _options(parser, self.name)
        settings = Settings(options.steps, options.guidance, options.length)
        results = self.measure(
            load(folder), options.kinds, options.prompts, options.seed, settings, options.sheet
        )
        print(table(results, self.attributes, self.unit))
        print(json.dumps({"eval": self.name, "prompts": options.prompts, "seed": options.seed,
                          "settings": asdict(settings), "results": results}))  # fmt: skip


def load(folder: Path) -> Any:
    """The directory as a stock pipeline, quiet and in fp32."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def score(verdicts: Sequence[object], attributes: tuple[str, ...]) -> dict[str, float]:
    """Share of verdicts that hold, for each attribute."""
    return {
        name: round(float(np.mean([getattr(v, name) for v in verdicts])), 4) for name in attributes
    }


def sheet(images: Pixels, columns: int = 12) -> Image.Image:
    """Contact sheet of [N, H, W, 3]; N is cut to full rows."""
    rows = max(1, len(images) // columns)
    columns = min(columns, len(images))
    lines = [np.concatenate(list(images[r * columns : (r + 1) * columns]), 1) for r in range(rows)]
    return Image.fromarray(np.concatenate(lines))


def table(results: dict[str, dict[str, float]], attributes: tuple[str, ...], unit: str) -> str:
    """Scores of `Exam.measure` as lines of text; `unit` is what one prompt gives."""
    lines = [
        f"{'prompts':26}" + "".join(f"{name:>12}" for name in attributes) + f"{'s/' + unit:>10}"
    ]
    for kind, row in results.items():
        cells = "".join(f"{100 * row[name]:11.1f}%" for name in attributes)
        lines.append(f"{kind:26}{cells}{row[f'seconds_per_{unit}']:10.3f}")
    return "\n".join(lines)


def _options(parser: argparse.ArgumentParser, name: str) -> tuple[Path, argparse.Namespace]:
    """Parse the command line, set threads and memory up; the directory to measure, and the rest."""
    parser.add_argument(
        "--dir", type=Path, default=None, help="pipeline directory (default: as shipped)"
    )
    parser.add_argument("--prompts", type=int, default=500, help="prompts of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--sheet", type=Path, help="save a contact sheet of the first kind here")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument(
        "--guidance", type=float, default=Settings.guidance, help="above 1 turns it on"
    )
    parser.add_argument("--length", type=int, default=Settings.length, help="tokens of the text")
    options = parser.parse_args()
    folder: Path = options.dir or starter.path(name)
    if not (folder / "model_index.json").is_file():
        parser.error(f"--dir {folder}: no model_index.json there")
    torch.set_num_threads(options.threads)
    keep_memory()
    return folder, options
