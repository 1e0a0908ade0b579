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
CLIP_PROMPTS = (
    "a red circle moving right on a white background",
    "a blue triangle moving up",
    "a green square moving left on a gray background",
    "a yellow circle moving down on a black background",
    "an orange triangle moving right",
    "a purple square moving up on a black background",
)
CLIP = "starter-lab--starter-video"
CLIP_SIDE, CLIP_STEPS = 64, 20
SIDE, COLUMNS, SEED = 128, 3, 7


def main() -> int:
    """Draw every sheet. Returns the exit status."""
    for name, steps in STEPS.items():
        draw(FOLDER / f"{name}.png", steps)
        print(f"{name}.png")
    film(FOLDER / f"{CLIP}.mp4")
    print(f"{CLIP}.mp4")
    return 0


def _place(index: int, side: int) -> tuple[int, int]:
    return index % COLUMNS * side, index // COLUMNS * side


def _run(model: str, prompt: str, steps: int, out: Path) -> None:
    """Draw one thing as a user of the command line would."""
    subprocess.run(
        [
            *(sys.executable, "-m", "inference", "run", "--model", model),
            *("--prompt", prompt, "--steps", str(steps), "--seed", str(SEED)),
            *("--out", str(out)),
        ],
        check=True,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
    )


def draw(path: Path, steps: int) -> None:
    """Draw all prompts with the starter model and lay them out in one picture of 3 × 2."""
    from PIL import Image

    sheet = Image.new("RGB", (COLUMNS * SIDE, len(PROMPTS) // COLUMNS * SIDE))
    with tempfile.TemporaryDirectory() as folder:
        for index, prompt in enumerate(PROMPTS):
            out = Path(folder) / f"{index}.png"
            _run("starter-image", prompt, steps, out)
            with Image.open(out) as tile:
                sheet.paste(tile.convert("RGB"), _place(index, SIDE))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def film(path: Path) -> None:
    """Draw all clips with the video starter and play them side by side in one of 3 × 2."""
    import av
    from PIL import Image

    sheets: list[Image.Image] = []
    with tempfile.TemporaryDirectory() as folder:
        for index, prompt in enumerate(CLIP_PROMPTS):
            out = Path(folder) / f"{index}.mp4"
            _run("starter-video", prompt, CLIP_STEPS, out)
            with av.open(out) as clip:
                rate = clip.streams.video[0].average_rate
                for number, frame in enumerate(clip.decode(video=0)):
                    if number == len(sheets):
                        size = (COLUMNS * CLIP_SIDE, len(CLIP_PROMPTS) // COLUMNS * CLIP_SIDE)
                        sheets.append(Image.new("RGB", size))
                    sheets[number].paste(frame.to_image(), _place(index, CLIP_SIDE))  # type: ignore[no-untyped-call]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", options={"movflags": "+faststart"}) as film:
        stream = film.add_stream("libx264", rate=rate, options={"crf": "15", "preset": "slow"})
        stream.width, stream.height = (2 * side for side in sheets[0].size)
        stream.pix_fmt = "yuv420p"
        for sheet in sheets:
            big = sheet.resize((stream.width, stream.height), Image.Resampling.LANCZOS)
            film.mux(stream.encode(av.VideoFrame.from_image(big)))  # type: ignore[no-untyped-call]
        film.mux(stream.encode())


if __name__ == "__main__":
    sys.exit(main())
