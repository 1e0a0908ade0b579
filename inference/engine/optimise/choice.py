"""Asks the planner what to put on a pipeline that has just been loaded."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from inference.engine import planner
from inference.engine.cost import Architecture
from inference.engine.families import name_of
from inference.engine.roofs import roof_for
from inference.engine.shapes import Shape

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded
    from inference.engine.optimise.base import Optimisation

log = logging.getLogger(__name__)

TEXT_TOKENS = 77
"""Tokens of a prompt, where nothing is known of it yet."""


def choices(
    loaded: Loaded,
    quality: str,
    specs: Sequence[Optimisation],
    candidates: Mapping[str, Collection[str]],
) -> list[planner.Choice]:
    """Return what the planner picks of `specs` for the size that the model's users get unasked.

    All candidates where the cost model does not know the model.
    """
    family, asked = loaded.family, loaded.defaults
    width, height = family.default_size(loaded.base)
    shape = Shape(
        width=asked.get("width", width),
        height=asked.get("height", height),
        num_frames=asked.get("num_frames", family.frames) or 1,
        text_tokens=asked.get("max_sequence_length", TEXT_TOKENS),
    )
    try:
        considered: Sequence[planner.Choice] = planner.pick(
            name_of(family),
            Architecture.of_pipeline(loaded.base),
            roof_for(loaded.device),
            shape,
            specs=specs,
            candidates=candidates,
            steps=asked.get("steps", family.steps),
            guided=asked.get("guidance", family.guidance) > 1,
            quality=quality,
            dtype=str(loaded.device.dtype).removeprefix("torch."),
        )
    except Exception as error:  # a class that nobody has counted, or a copy that does not run
        log.info("not planned, all that fits is put on: %s", error)
        named = [spec for spec in specs if spec.name in candidates[quality]]
        considered = [_unweighed(spec) for spec in named]
    return [choice for choice in considered if choice.picked]


def _unweighed(spec: Optimisation) -> planner.Choice:
    options: dict[str, Any] = dict(spec.options)
    return planner.Choice(
        name=spec.name, picked=True, reason="not weighed", options=options, loss=spec.loss
    )
