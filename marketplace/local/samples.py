"""Draws the sample pictures of the models that ship: `python -m marketplace.local.samples`.

The gallery shows committed samples, never what developers made. Run it again when the weights
change; the prompts and the seed are fixed, so nobody picks the lucky ones.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from marketplace.local.environment import REPOSITORY

FOLDER = REPOSITORY / "marketplace" / "static" / "mercato" / "samples"
PROMPTS = (
    "a red circle above a blue square on a white background",
    "a green triangle on a black background",
    "a blue triangle below a red square",
    "a yellow square beside a blue circle",
    "a purple circle on a white background",
    "a green circle above a yellow triangle",
)
STEPS = {"starter-lab--starter-image": 20, "quick-studio--quick-sketch": 8}
SIDE, COLUMNS, SEED = 128, 3, 7


def main() -> int:
    """Draw every sheet. Returns the exit status."""
    for name, steps in STEPS.items():
        draw(FOLDER / f"{name}.png", steps)
        print(f"{name}.png")
    return 0


def draw(path: Path, steps: int) -> None:
    """Draw all prompts with the starter model and lay them out in one picture of 3 × 2."""
    from PIL import Image

    rows = len(PROMPTS) // COLUMNS
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE))
    with tempfile.TemporaryDirectory() as folder:
        for index, prompt in enumerate(PROMPTS):
            out = Path(folder) / f"{index}.png"
            subprocess.run(
                [
                    *(sys.executable, "-m", "inference", "run", "--model", "starter-image"),
                    *("--prompt", prompt, "--steps", str(steps), "--seed", str(SEED)),
                    *("--out", str(out)),
                ],
                check=True,
                cwd=REPOSITORY,
                stdout=subprocess.DEVNULL,
            )
            with Image.open(out) as tile:
                place = (index % COLUMNS * SIDE, index // COLUMNS * SIDE)
                sheet.paste(tile.convert("RGB"), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
