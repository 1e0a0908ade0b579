"""Optimisations as data: each module here puts one on a loaded pipeline and takes it off."""

from __future__ import annotations

from inference.engine.errors import InvalidProfileError
from inference.engine.loaded import Loaded
from inference.engine.optimise.base import Optimisation
from inference.engine.optimise.block_cache import FIRST_BLOCK_CACHE, TAYLOR
from inference.engine.optimise.compiled import COMPILED
from inference.engine.optimise.guidance import GUIDANCE_INTERVAL
from inference.engine.optimise.layout import CHANNELS_LAST
from inference.engine.optimise.precision import BF16_DECODER, BF16_DENOISER
from inference.engine.profile import EXACT, Profile

REGISTRY: dict[str, Optimisation] = {
    optimisation.name: optimisation
    for optimisation in (
        CHANNELS_LAST,
        BF16_DENOISER,
        BF16_DECODER,
        GUIDANCE_INTERVAL,
        FIRST_BLOCK_CACHE,
        TAYLOR,
        COMPILED,
    )
}

DEFAULTS: dict[str, tuple[str, ...]] = {
    EXACT: ("channels_last", "compiled"),
    "high": ("channels_last", "bf16_decoder", "bf16_denoiser", "compiled"),
    "fast": ("channels_last", "bf16_decoder", "bf16_denoiser", "guidance_interval", "compiled"),
}
"""What each quality puts on where a version's profile names nothing."""


def mount(loaded: Loaded, profile: Profile) -> None:
    """Put the optimisations of `profile` on, in their order; what does not fit is left off.

    What a profile names and cannot be had is said in `loaded.notes`. Raises InvalidProfileError
    at a name or an option that does not exist.
    """
    named = profile.optimisations
    chosen = {name: {} for name in DEFAULTS[profile.quality]} if named is None else dict(named)
    for name in chosen:
        if name not in REGISTRY:
            known = ", ".join(sorted(REGISTRY))
            raise InvalidProfileError(f"optimisations: {name} is unknown; known are {known}")
    if loaded.base is None:
        return
    for optimisation in sorted((REGISTRY[name] for name in chosen), key=lambda o: o.order):
        problem = optimisation.missing(loaded)
        if problem is None:
            put_on(loaded, optimisation, dict(chosen[optimisation.name]))
        elif named is not None:
            loaded.notes.append(f"{optimisation.name} is off: {problem}")


def put_on(loaded: Loaded, optimisation: Optimisation, options: dict[str, object]) -> None:
    """Put one on. Raises InvalidProfileError at an option that is wrong."""
    if unknown := set(options) - set(optimisation.options):
        raise InvalidProfileError(f"optimisations.{optimisation.name} has no option {min(unknown)}")
    try:
        undo = optimisation.apply(loaded, **{**optimisation.options, **options})
    except (TypeError, ValueError) as error:
        raise InvalidProfileError(f"optimisations.{optimisation.name}: {error}") from error
    loaded.mounted[optimisation.name] = undo


def settled(loaded: Loaded) -> bool:
    """Tell whether nothing is being compiled for `loaded` in the background."""
    return not getattr(loaded.predict, "busy", False)


def take_off(loaded: Loaded) -> None:
    """Take everything off, last first, which leaves the stock pipeline."""
    while loaded.mounted:
        _, undo = loaded.mounted.popitem()
        undo()
