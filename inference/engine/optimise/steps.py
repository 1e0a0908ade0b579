"""Takes fewer steps than asked for: what every other loss of quality has to beat."""

from __future__ import annotations

from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Speedup
from inference.engine.optimise.base import Optimisation, Undo


def _apply(loaded: Loaded, share: float = 0.5, least: int = 4) -> Undo:
    """Run `share` of the steps that a request asks for, but not fewer than `least` of them."""
    if not 0 < share <= 1:
        raise ValueError("share must be above 0 and at most 1")
    if least < 1:
        raise ValueError("least must be 1 or more")
    before = loaded.step_share, loaded.least_steps
    loaded.step_share, loaded.least_steps = share, least

    def undo() -> None:
        loaded.step_share, loaded.least_steps = before

    return undo


FEWER_STEPS = Optimisation(
    name="fewer_steps",
    summary="half of the steps that are asked for, but not under 4",
    stage="denoise",
    loss=2.0,
    order=5,
    apply=_apply,
    options={"share": 0.5, "least": 4},
    denoise=Speedup(whole=2.0),
)
