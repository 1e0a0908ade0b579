"""Automatic judge: looks at a picture alone and says whether it shows a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.starter.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene

MIN_IOU = 0.85  # a circle's bounding square scores 0.785 against the circle
MIN_AREA = 0.005  # of the picture; smaller specks are no objects
MIN_PURITY = 0.9  # of an object's inner pixels in one palette colour
MIN_BORDER = 0.97  # of the picture's border in the background colour

_NAMES = [*BACKGROUNDS, *COLOURS]
_PALETTE = np.asarray([*BACKGROUNDS.values(), *COLOURS.values()], np.float32)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """One object seen in a picture; `shape` or `colour` is "" where none fits."""

    colour: str
    shape: str
    x: float  # centroid, in picture widths
    y: float  # centroid, in picture heights
    iou: float
    area: float  # share of the picture


@dataclass(frozen=True)
class Verdict:
    """What is right about a picture. Attributes of missing objects count as wrong."""

    background: bool
    count: bool
    colour: bool
    shape: bool
    relation: bool

    @property
    def right(self) -> bool:
        """Everything is as told."""
        return self.background and self.count and self.colour and self.shape and self.relation


def components(mask: Mask) -> list[Mask]:
    """8-connected components of a [H, W] mask, by union of row runs."""
    parent: list[int] = []
    runs: list[tuple[int, int, int]] = []  # row, start, end (exclusive)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    above: list[int] = []
    for row, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(np.int8), [0]))))
        here: list[int] = []
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            index = len(runs)
            runs.append((row, int(start), int(end)))
            parent.append(index)
            here.append(index)
            for other in above:
                if runs[other][1] <= end and start <= runs[other][2]:
                    parent[root(other)] = root(index)
        above = here
    out: dict[int, Mask] = {}
    for index, (row, start, end) in enumerate(runs):
        out.setdefault(root(index), np.zeros_like(mask))[row, start:end] = True
    return list(out.values())


def _templates(height: int, width: int) -> dict[str, Mask]:
    y = (np.arange(height)[:, None] + 0.5) / height * 2 - 1
    x = (np.arange(width)[None, :] + 0.5) / width * 2 - 1
    return {
        "circle": x * x + y * y <= 1,
        "square": np.ones((height, width), bool),
        "triangle": np.abs(x) <= (y + 1) / 2 + 1 / width,
    }


def _shape_of(mask: Mask) -> tuple[str, float]:
    """Best-fitting shape of a component and its overlap (IoU) with that template."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = crop.shape
    if not 0.75 <= width / height <= 1.34:
        return "", 0.0
    scores = {
        name: float((crop & template).sum() / (crop | template).sum())
        for name, template in _templates(height, width).items()
    }
    best = max(SHAPES, key=lambda name: scores[name])
    return (best, scores[best]) if scores[best] >= MIN_IOU else ("", scores[best])


def _erode(mask: Mask) -> Mask:
    padded = np.pad(mask, 2)
    core = padded.copy()
    for dy, dx in ((0, 2), (0, -2), (2, 0), (-2, 0)):
        core &= np.roll(padded, (dy, dx), (0, 1))
    return core[2:-2, 2:-2]


def look(image: NDArray[np.uint8]) -> tuple[str, list[Found]]:
    """Background name ("" if the border is not of one colour) and the objects of [H, W, 3]."""
    height, width = image.shape[:2]
    distance = ((image[:, :, None, :].astype(np.float32) - _PALETTE) ** 2).sum(-1)
    nearest = distance.argmin(-1)
    frame = np.concatenate([nearest[:2].ravel(), nearest[-2:].ravel(),
                            nearest[:, :2].ravel(), nearest[:, -2:].ravel()])  # fmt: skip
    counts = np.bincount(frame, minlength=len(_NAMES))
    ground = int(counts.argmax())
    named = ground < len(BACKGROUNDS) and counts[ground] >= MIN_BORDER * len(frame)
    found = []
    for part in components(nearest != ground):
        if part.sum() < MIN_AREA * height * width:
            continue
        inner = _erode(part)
        inside = nearest[inner if inner.any() else part]
        colours = np.bincount(inside, minlength=len(_NAMES))
        colour = int(colours.argmax())
        pure = colour >= len(BACKGROUNDS) and colours[colour] >= MIN_PURITY * len(inside)
        shape, iou = _shape_of(part)
        ys, xs = np.nonzero(part)
        found.append(
            Found(_NAMES[colour] if pure else "", shape, float(xs.mean() / width),
                  float(ys.mean() / height), iou, len(xs) / (height * width))
        )  # fmt: skip
    return (_NAMES[ground] if named else ""), found


def judge(image: NDArray[np.uint8], scene: Scene) -> Verdict:
    """Compare a picture ([H, W, 3] RGB) with the scene it should show."""
    background, found = look(image)
    count = len(found) == len(scene.objects)
    if not count:
        return Verdict(background == scene.background, False, False, False, False)
    relation, wanted = True, list(scene.objects)
    if len(found) == 2:
        across, down = abs(found[0].x - found[1].x), abs(found[0].y - found[1].y)
        found.sort(key=(lambda f: f.y) if down > across else (lambda f: f.x))
        relation = (scene.relation == "above") == (down > across) and max(across, down) > 0.15
        if _matches(found, wanted[::-1]) > _matches(found, wanted):  # swapped places
            relation, wanted = False, wanted[::-1]
    return Verdict(
        background == scene.background,
        count,
        all(f.colour == colour for f, (colour, _) in zip(found, wanted, strict=True)),
        all(f.shape == shape for f, (_, shape) in zip(found, wanted, strict=True)),
        relation,
    )


def _matches(found: list[Found], wanted: list[tuple[str, str]]) -> int:
    return sum((f.colour == c) + (f.shape == s) for f, (c, s) in zip(found, wanted, strict=True))
