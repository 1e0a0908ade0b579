"""Draws the sample outputs of the models that ship: `python -m marketplace.local.samples`.

The demo market shows committed samples, never what developers made. Run it again when the weights
change; the prompts and the seed are fixed, so nobody picks the lucky ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from marketplace.local.environment import REPOSITORY

FOLDER = REPOSITORY / "marketplace" / "local" / "outputs"
INDEX = FOLDER / "outputs.json"
PICTURES = (
    "a red circle above a blue square on a white background",
    "a green triangle on a black background",
    "a blue triangle below a red square",
    "a yellow square beside a blue circle",
)
CLIPS = (
    "a red circle moving right on a white background",
    "a blue triangle moving up",
    "a green square moving left on a gray background",
    "an orange triangle moving right",
)
SEED = 7
NIGHT = ("--lora", "starter:starter-night")
MODELS: dict[str, tuple[str, int, tuple[str, ...], tuple[str, ...]]] = {
    "starter-image": ("starter-image", 20, PICTURES, ()),
    "quick-sketch": ("starter-image", 4, PICTURES, ()),
    "starter-night": ("starter-image", 8, PICTURES, NIGHT),
    "starter-video": ("starter-video", 20, CLIPS, ()),
}
"""What is listed, each with the weights that draw it, steps, prompts and further arguments."""


def main() -> int:
    """Draw every sample and write the index of them. Returns the exit status."""
    index: dict[str, list[dict[str, Any]]] = {}
    for name, (weights, steps, prompts, more) in MODELS.items():
        index[name] = []
        for number, prompt in enumerate(prompts):
            ending = "mp4" if weights.endswith("video") else "png"
            path = FOLDER / name / f"{number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            _run(weights, prompt, steps, path, more)
            given = {"prompt": prompt, "num_inference_steps": steps, "seed": SEED}
            index[name].append({"file": f"{name}/{path.name}", "input": given, **_measure(path)})
            print(path.relative_to(REPOSITORY))
    INDEX.write_text(json.dumps(index, indent=1) + "\n")
    return 0


def _measure(path: Path) -> dict[str, Any]:
    """Return width and height in pixels, and of a clip its seconds."""
    import av

    with av.open(path) as file:
        video = file.streams.video[0]
        size: dict[str, Any] = {"width": video.width, "height": video.height}
        if path.suffix == ".mp4" and file.duration:
            size["seconds"] = round(file.duration / av.time_base, 2)
        return size


def _run(model: str, prompt: str, steps: int, out: Path, more: tuple[str, ...]) -> None:
    """Draw one thing as a user of the command line would."""
    subprocess.run(
        [
            *(sys.executable, "-m", "inference", "run", "--model", model),
            *("--prompt", prompt, "--steps", str(steps), "--seed", str(SEED)),
            *("--out", str(out), *more),
        ],
        check=True,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    sys.exit(main())
