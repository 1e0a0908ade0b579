"""Asks the planner what to put on a pipeline that has just been loaded."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from inference.engine import planner
from inference.engine.cost import Architecture
from inference.engine.estimate import is_guided, shape_of, usual_request
from inference.engine.families import name_of
from inference.engine.roofs import roof_for

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded
    from inference.engine.optimise.base import Optimisation

log = logging.getLogger(__name__)


def choices(
    loaded: Loaded,
    quality: str,
    specs: Sequence[Optimisation],
    candidates: Mapping[str, Collection[str]],
) -> list[planner.Choice]:
    """Return what the planner picks of `specs` for the size that the model's users get unasked.

    All candidates where the cost model does not know the model.
    """
    try:
        request = usual_request(loaded)
        asked = planner.Question(
            family=name_of(loaded.family),
            architecture=Architecture.of_pipeline(loaded.base),
            roof=roof_for(loaded.device),
            shape=shape_of(loaded, request),
            specs=specs,
            candidates=candidates,
            steps=request.steps or loaded.family.steps,
            guided=is_guided(loaded, request),
            quality=quality,
            dtype=str(loaded.device.dtype).removeprefix("torch."),
        )
        considered: Sequence[planner.Choice] = planner.pick(asked)
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
