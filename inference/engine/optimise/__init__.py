"""Optimisations as data: each module here puts one on a loaded pipeline and takes it off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference.engine.errors import InvalidProfileError, is_out_of_memory
from inference.engine.loaded import Loaded
from inference.engine.optimise.attention import ATTENTION_BACKEND, SAGE_ATTENTION
from inference.engine.optimise.base import Optimisation
from inference.engine.optimise.block_cache import FIRST_BLOCK_CACHE, TAYLOR
from inference.engine.optimise.choice import choices
from inference.engine.optimise.compiled import COMPILED, COMPILED_DECODER
from inference.engine.optimise.cuda_graphs import CUDA_GRAPHS
from inference.engine.optimise.fused_kernels import KERNELS, KERNELS_HIGH
from inference.engine.optimise.guidance import GUIDANCE_INTERVAL
from inference.engine.optimise.int8_linear import INT8_DENOISER
from inference.engine.optimise.layout import CHANNELS_LAST
from inference.engine.optimise.magnitude_caches import MAGCACHE, TEACACHE
from inference.engine.optimise.precision import BF16_DECODER, BF16_DENOISER
from inference.engine.optimise.precompute import PRECOMPUTE
from inference.engine.optimise.quantised import FP8_DENOISER, INT8_DENOISER_GPU
from inference.engine.optimise.regional import COMPILE_REGIONAL
from inference.engine.optimise.sparse_attention import (
    SLIDING_TILE_ATTENTION,
    VIDEO_SPARSE_ATTENTION,
)
from inference.engine.optimise.steps import FEWER_STEPS
from inference.engine.optimise.tiling import TILED_DECODE
from inference.engine.profile import EXACT, Profile

REGISTRY: dict[str, Optimisation] = {
    optimisation.name: optimisation
    for optimisation in (
        CHANNELS_LAST,
        BF16_DENOISER,
        BF16_DECODER,
        FEWER_STEPS,
        GUIDANCE_INTERVAL,
        FIRST_BLOCK_CACHE,
        TAYLOR,
        TEACACHE,
        MAGCACHE,
        PRECOMPUTE,
        COMPILED,
        COMPILED_DECODER,
        INT8_DENOISER,
        TILED_DECODE,
        FP8_DENOISER,
        INT8_DENOISER_GPU,
        VIDEO_SPARSE_ATTENTION,
        SLIDING_TILE_ATTENTION,
        SAGE_ATTENTION,
        ATTENTION_BACKEND,
        COMPILE_REGIONAL,
        KERNELS,
        KERNELS_HIGH,
        CUDA_GRAPHS,
    )
}

DEFAULTS: dict[str, tuple[str, ...]] = {
    EXACT: ("channels_last", "precompute", "compiled"),
    "high": ("channels_last", "bf16_decoder", "bf16_denoiser", "precompute", "compiled"),
    "fast": (
        "channels_last",
        "bf16_decoder",
        "bf16_denoiser",
        "fewer_steps",
        "precompute",
        "compiled",
    ),
}
_ON_CUDA = ("attention_backend", "compile_regional", "kernels", "cuda_graphs")
ON_CUDA: dict[str, tuple[str, ...]] = {
    EXACT: _ON_CUDA,
    "high": (*_ON_CUDA, "kernels_high", "fp8_denoiser"),
    "fast": (*_ON_CUDA, "kernels_high", "fp8_denoiser", "int8_denoiser_gpu", "sage_attention"),
}
DEFAULTS |= {quality: (*names, *ON_CUDA[quality]) for quality, names in DEFAULTS.items()}
"""What each quality may put on where a version's profile names nothing; the planner picks."""


def mount(loaded: Loaded, profile: Profile) -> None:
    """Put the optimisations of `profile` on, in their order; what does not fit is left off.

    Where it names none, the planner picks for the model's own size on this device.

    What a profile names and cannot be had is said in `loaded.notes`. Raises InvalidProfileError
    at a name or an option that does not exist.
    """
    named = profile.optimisations
    chosen = _picked(loaded, profile.quality) if named is None else dict(named)
    for name in chosen:
        if name not in REGISTRY:
            known = ", ".join(sorted(REGISTRY))
            raise InvalidProfileError(f"optimisations: {name} is unknown; known are {known}")
    if loaded.base is None:
        return
    for optimisation in sorted((REGISTRY[name] for name in chosen), key=lambda o: o.order):
        problem = optimisation.missing(loaded)
        if problem is None and named is None:
            problem = _try(loaded, optimisation, dict(chosen[optimisation.name]))
            if problem is not None:
                loaded.notes.append(f"{optimisation.name} is off: {problem}")
        elif problem is None:
            put_on(loaded, optimisation, dict(chosen[optimisation.name]))
        elif named is not None:
            loaded.notes.append(f"{optimisation.name} is off: {problem}")


def _try(loaded: Loaded, optimisation: Optimisation, options: dict[str, object]) -> str | None:
    """Put on what nobody asked for by name; return why that failed, which hurts nobody."""
    try:
        put_on(loaded, optimisation, options)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"it failed ({type(error).__name__})"
    return None


def _picked(loaded: Loaded, quality: str) -> dict[str, Mapping[str, Any]]:
    """Return names and options of what the planner picks for `loaded`."""
    if loaded.base is None:
        return {}
    # Only candidates are asked what they lack: to answer, some try their kernels.
    open_to = [o for o in REGISTRY.values() if o.name in DEFAULTS[quality]]
    fitting = [o for o in open_to if o.missing(loaded) is None]
    return {choice.name: choice.options for choice in choices(loaded, quality, fitting, DEFAULTS)}


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
    return not any(builder.busy for builder in loaded.builders)


def take_off(loaded: Loaded) -> None:
    """Take everything off, last first, which leaves the stock pipeline."""
    while loaded.mounted:
        _, undo = loaded.mounted.popitem()
        undo()
