"""What the quality gate compares: each optimisation alone, each quality, and fewer steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.engine.profile import Profile

PLAIN, ALONE, LEVEL = "plain", "alone", "level"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to draw.

    A `series` of the same profile with fewer and fewer steps is a control; `control` names the
    series that a variant is held against, "" where it is held against its declared loss alone.
    """

    name: str
    kind: str
    profile: Profile
    steps: int
    series: str = ""
    control: str = ""


def fewer(steps: int) -> list[int]:
    """Return the numbers of steps of a control, the most first."""
    counts = {round(steps * eighths / 8) for eighths in range(8, 1, -1)}
    return sorted((count for count in counts if count >= 1), reverse=True)


def variants(steps: int, only: list[str] | None = None) -> list[Variant]:
    """Return all that is compared for a model of `steps` steps, plain sampling first.

    What a quality gains over `exact` must beat `exact` with fewer steps, since that loses nothing
    for its speed. `only` keeps the named optimisations and qualities, and all controls.
    """
    from inference.engine.optimise import DEFAULTS, REGISTRY
    from inference.engine.optimise.steps import FEWER_STEPS
    from inference.engine.profile import EXACT, Profile

    for name in only or []:
        if name not in (*REGISTRY, *DEFAULTS):
            raise KeyError(f"no optimisation or quality {name!r}")
    plain, exact = Profile(optimisations={}), Profile(quality=EXACT)
    found = [
        Variant(f"plain, {count} steps", PLAIN, plain, count, series=PLAIN)
        for count in fewer(steps)
    ]
    for name, optimisation in REGISTRY.items():
        profile = Profile(quality="fast", optimisations={name: {}})
        control = "" if optimisation is FEWER_STEPS else PLAIN
        found.append(Variant(name, ALONE, profile, steps, control=control))
    for quality in DEFAULTS:
        control = PLAIN if quality == EXACT else EXACT
        series = EXACT if quality == EXACT else ""
        profile = Profile(quality=quality)
        found.append(Variant(quality, LEVEL, profile, steps, series, control))
    if only is not None:
        found = [v for v in found if v.kind == PLAIN or v.series or v.name in only]
    found += [
        Variant(f"{EXACT}, {count} steps", PLAIN, exact, count, series=EXACT)
        for count in fewer(steps)[1:]
    ]
    return found
