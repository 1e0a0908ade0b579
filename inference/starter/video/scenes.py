"""The moving shapes: what a clip is, how it is drawn, and which clips training never sees."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from inference.starter.scenes import BACKGROUNDS, COLOURS, HELD_OUT_PERCENT, SHAPES, coverage

SIZE = 64  # pixels per side
FRAMES = 17  # 4k + 1, as the autoencoder groups them
FPS = 8

# Direction of travel, x to the right and y down.
MOTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "still": (0, 0),
}


@dataclass(frozen=True)
class Clip:
    """One shape on a plain background that moves one way, or stands still."""

    background: str
    colour: str
    shape: str
    motion: str

    @property
    def key(self) -> str:
        """Stable text form, used to split clips into training and held-out."""
        return f"{self.background}|{self.colour} {self.shape}|{self.motion}"

    @property
    def held_out(self) -> bool:
        """True for the tenth of all clips that training never draws, in any wording."""
        return int(hashlib.sha256(self.key.encode()).hexdigest(), 16) % 100 < HELD_OUT_PERCENT


def all_clips() -> list[Clip]:
    """All 270 clips, in a fixed order."""
    return [Clip(b, c, s, m) for b in BACKGROUNDS for c in COLOURS for s in SHAPES for m in MOTIONS]


@cache
def split(held_out: bool) -> tuple[Clip, ...]:
    """One side of the split."""
    return tuple(clip for clip in all_clips() if clip.held_out == held_out)


def sample_clips(rng: np.random.Generator, count: int, *, held_out: bool) -> list[Clip]:
    """`count` clips of one side of the split."""
    pool = split(held_out)
    return [pool[index] for index in rng.integers(len(pool), size=count)]


def path_of(motion: str, rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
    """A random straight path: centres [FRAMES, 2] as (x, y) in pixels, and the shape's radius."""
    if motion not in MOTIONS:
        raise ValueError(f"unknown motion {motion!r}")
    along = np.asarray(MOTIONS[motion], np.float32)
    half, radius = rng.uniform(11, 14), rng.uniform(9.5, 12.5)
    limit = np.where(along != 0, 1.5, 9.0)  # off the middle, along and across the path
    middle = SIZE / 2 + rng.uniform(-limit, limit)
    time = np.linspace(-1, 1, FRAMES)[:, None]
    centres: NDArray[np.float32] = (middle + half * time * along).astype(np.float32)
    return centres, float(radius)


def render(
    clip: Clip, rng: np.random.Generator, first: int = 0, count: int = FRAMES
) -> NDArray[np.uint8]:
    """Draw frames `first` to `first + count` of `clip`: [count, 64, 64, 3] RGB.

    `rng` picks place, size and speed.
    """
    centres, radius = path_of(clip.motion, rng)
    x, y = centres[first : first + count].T[:, :, None, None]
    alpha = coverage(clip.shape, x, y, radius, SIZE)[..., None]
    ground = np.asarray(BACKGROUNDS[clip.background], np.float32)
    frames = ground * (1 - alpha) + np.asarray(COLOURS[clip.colour], np.float32) * alpha
    return np.rint(frames).astype(np.uint8)


def render_batch(
    clips: list[Clip], rng: np.random.Generator, count: int = FRAMES
) -> NDArray[np.uint8]:
    """Draw `count` frames in a row of each clip, from a random one on: [N, count, 64, 64, 3]."""
    firsts = rng.integers(FRAMES - count + 1, size=len(clips))
    return np.stack(
        [render(clip, rng, int(at), count) for clip, at in zip(clips, firsts, strict=True)]
    )
