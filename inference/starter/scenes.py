"""The shapes world: what a scene is, how it is drawn, and which scenes training never sees."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIZE = 128  # pixels per side

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 40),
    "green": (30, 160, 60),
    "blue": (40, 70, 220),
    "yellow": (250, 215, 30),
    "orange": (250, 130, 20),
    "purple": (140, 40, 170),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "black": (10, 10, 10),
    "gray": (128, 128, 128),
}
SHAPES = ("circle", "square", "triangle")
RELATIONS = ("above", "left of")  # canonical; "below" and "right of" are these with objects swapped
HELD_OUT_PERCENT = 10

Object = tuple[str, str]  # colour, shape
Place = float | NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """One or two objects on a plain background.

    With two objects `relation` says how objects[0] stands to objects[1] and is canonical
    ("above" or "left of"), so that one picture has one Scene, whatever caption tells it.
    """

    background: str
    objects: tuple[Object, ...]
    relation: str | None = None

    @property
    def key(self) -> str:
        """Stable text form, used to split scenes into training and held-out."""
        return "|".join(
            [self.background, self.relation or "-", *(f"{c} {s}" for c, s in self.objects)]
        )

    @property
    def held_out(self) -> bool:
        """True for the tenth of all scenes that training never draws, in any wording."""
        return int(hashlib.sha256(self.key.encode()).hexdigest(), 16) % 100 < HELD_OUT_PERCENT


def all_scenes() -> list[Scene]:
    """All 54 one-object and 1,944 two-object scenes, in a fixed order."""
    things = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    single = [Scene(b, (o,)) for b in BACKGROUNDS for o in things]
    double = [
        Scene(b, (first, second), relation)
        for b in BACKGROUNDS
        for first in things
        for second in things
        for relation in RELATIONS
    ]
    return single + double


@cache
def split(held_out: bool) -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    """One side of the split: its one-object and its two-object scenes."""
    pool = [scene for scene in all_scenes() if scene.held_out == held_out]
    return (
        tuple(scene for scene in pool if len(scene.objects) == 1),
        tuple(scene for scene in pool if len(scene.objects) == 2),
    )


def sample_scenes(
    rng: np.random.Generator, count: int, *, held_out: bool, single_fraction: float = 0.25
) -> list[Scene]:
    """`count` scenes of one side of the split, `single_fraction` of them with one object."""
    single, double = split(held_out)
    is_single = rng.random(count) < single_fraction
    return [
        single[rng.integers(len(single))] if one else double[rng.integers(len(double))]
        for one in is_single
    ]


def coverage(
    shape: str, cx: Place, cy: Place, radius: float, size: int = SIZE
) -> NDArray[np.float32]:
    """Share of each pixel inside the shape, [..., size, size] in 0..1 (antialiased edge).

    The centre is in pixels: a number each, or arrays [..., 1, 1] of as many pictures.
    """
    axis = np.arange(size, dtype=np.float32) + 0.5
    x, y = axis[None, :] - cx, axis[:, None] - cy
    if shape == "circle":
        distance = np.sqrt(x * x + y * y) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - 0.9 * radius
    elif shape == "triangle":  # point up, base 2r, height 1.8r
        half_height = 0.9 * radius
        slope = np.hypot(2 * half_height, radius)
        side = (np.abs(x) * 2 * half_height - (y + half_height) * radius) / slope
        distance = np.maximum(side, y - half_height)
    else:
        raise ValueError(f"unknown shape {shape!r}")
    inside: NDArray[np.float32] = np.clip(0.5 - distance, 0.0, 1.0).astype(np.float32)
    return inside


def render(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw `scene`; `rng` picks exact places and sizes. Returns [128, 128, 3] RGB."""
    middle = SIZE / 2
    placed: list[tuple[Object, float, float, float]] = []
    if len(scene.objects) == 1:
        dx, dy = rng.uniform(-8, 8, 2)
        placed.append((scene.objects[0], middle + dx, middle + dy, rng.uniform(24, 34)))
    else:
        for sign, thing in zip((-1, 1), scene.objects, strict=True):
            along = middle + sign * rng.uniform(28, 33)
            across = middle + rng.uniform(-6, 6)
            x, y = (across, along) if scene.relation == "above" else (along, across)
            placed.append((thing, x, y, rng.uniform(18, 23)))
    image = np.empty((SIZE, SIZE, 3), np.float32)
    image[:] = BACKGROUNDS[scene.background]
    for (colour, shape), x, y, radius in placed:
        alpha = coverage(shape, x, y, radius)[..., None]
        image = image * (1 - alpha) + np.asarray(COLOURS[colour], np.float32) * alpha
    return np.rint(image).astype(np.uint8)


def render_batch(scenes: list[Scene], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw many scenes: [N, 128, 128, 3] RGB."""
    return np.stack([render(scene, rng) for scene in scenes])
