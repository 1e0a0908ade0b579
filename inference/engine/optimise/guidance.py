"""Runs the negative branch only in the first part of the steps, where it decides the layout."""

from __future__ import annotations

from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Needs, Speedup
from inference.engine.optimise.base import Optimisation, Undo


def _apply(loaded: Loaded, until: float = 0.5) -> Undo:
    """Guidance in a limited interval: arXiv 2404.07724. `until` is a share of the steps."""
    if not 0 < until <= 1:
        raise ValueError("until must be above 0 and at most 1")
    before = loaded.guidance_until
    loaded.guidance_until = until

    def undo() -> None:
        loaded.guidance_until = before

    return undo


GUIDANCE_INTERVAL = Optimisation(
    name="guidance_interval",
    summary="guidance in the first part of the steps only",
    stage="denoise",
    loss=8.0,
    order=30,
    apply=_apply,
    options={"until": 0.5},
    needs=Needs(guided=True),
    denoise=Speedup(whole=4 / 3),  # half of the steps run one branch of the two
    recommended=False,
)
