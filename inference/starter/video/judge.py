"""Automatic judge: looks at the frames alone and says whether they show a clip."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.starter.judge import Found, look
from inference.starter.video.scenes import MOTIONS, Clip

SLIPS = 2  # frames of a clip that may be wrong in any one respect
# Lengths are in picture widths; a clip of the training data travels 22 to 28 of 64 pixels.
MIN_TRAVEL = 14 / 64  # from first to last frame, of what is said to move
MAX_DRIFT = 3 / 64  # from first to last frame, of what is said to stand still; also off the path
MAX_STEP = 4.5 / 64  # between two frames: more is a jump
MAX_BACK = 0.7 / 64  # between two frames, against the way of travel
MAX_SWELL = 0.3  # change of area against the middle one


@dataclass(frozen=True)
class Verdict:
    """What is right about a clip. Attributes of what is not there count as wrong."""

    background: bool
    colour: bool
    shape: bool
    motion: bool
    steady: bool  # one object, ever the same, on a smooth way; whatever was told

    @property
    def right(self) -> bool:
        """Everything is as told."""
        return self.background and self.colour and self.shape and self.motion and self.steady


@dataclass(frozen=True)
class Seen:
    """What a clip shows; a name is "" where none fits in nearly every frame."""

    background: str
    colour: str
    shape: str
    motion: str
    steady: bool


def _common(names: list[str]) -> str:
    """The name that all but SLIPS agree on, or ""."""
    name, count = Counter(names).most_common(1)[0]
    return name if count >= len(names) - SLIPS else ""


def _motion(path: NDArray[np.float64]) -> str:
    """Name of the motion along centres [T, 2] (x, y), or ""."""
    ends = max(1, len(path) // 8)
    travel = path[-ends:].mean(0) - path[:ends].mean(0)
    if np.abs(travel).max() <= MAX_DRIFT:
        return "still"
    for name, way in MOTIONS.items():
        along = float(travel @ way)
        if along >= MIN_TRAVEL and np.abs(travel - along * np.asarray(way)).max() <= MAX_DRIFT:
            return name
    return ""


def _smooth(path: NDArray[np.float64]) -> bool:
    """No jumps, no turning back, no leaving the line between the ends; centres [T, 2]."""
    steps = np.diff(path, axis=0)
    if np.abs(steps).max(initial=0.0) > MAX_STEP:
        return False
    travel = path[-1] - path[0]
    length = float(np.hypot(*travel))
    if length <= 2 * MAX_DRIFT:  # stands still, or nearly
        return bool(np.abs(path - path.mean(0)).max() <= MAX_DRIFT)
    way = travel / length
    off = (path - path[0]) @ np.asarray([-way[1], way[0]])
    return bool((steps @ way).min() >= -MAX_BACK and np.abs(off).max() <= MAX_DRIFT)


def watch(frames: NDArray[np.uint8]) -> Seen:
    """What [T, H, W, 3] RGB shows. Where a frame has several objects, the largest is looked at."""
    looks = [look(frame) for frame in frames]
    largest: list[Found | None] = [max(f, key=lambda o: o.area, default=None) for _, f in looks]
    found = [thing for thing in largest if thing is not None]
    background = _common([name for name, _ in looks])
    if len(found) < max(2, len(frames) - SLIPS):
        return Seen(background, "", "", "", steady=False)
    colour = _common([thing.colour if thing else "" for thing in largest])
    shape = _common([thing.shape if thing else "" for thing in largest])
    path = np.asarray([(thing.x, thing.y) for thing in found])
    area = np.asarray([thing.area for thing in found])
    alone = sum(len(objects) == 1 for _, objects in looks) >= len(frames) - SLIPS
    level = np.abs(area / np.median(area) - 1) <= MAX_SWELL
    steady = alone and len(found) == len(frames) and int((~level).sum()) <= SLIPS
    same = bool(colour and shape and background)
    return Seen(background, colour, shape, _motion(path), steady and same and _smooth(path))


def judge(frames: NDArray[np.uint8], clip: Clip) -> Verdict:
    """Compare frames ([T, H, W, 3] RGB) with the clip that they should show."""
    seen = watch(frames)
    return Verdict(
        seen.background == clip.background,
        seen.colour == clip.colour,
        seen.shape == clip.shape,
        seen.motion == clip.motion,
        seen.steady,
    )
