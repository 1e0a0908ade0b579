"""Mounts our kernels: norms, gates, rotations and activations, each chain in one pass.

The package `kernels` finds the chains and checks each kernel against the model's own steps the
first time it meets a shape. Compiled blocks fuse the same chains, so only one of the two is on.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Collection
from typing import TYPE_CHECKING

from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Needs, Speedup
from inference.engine.optimise.base import Optimisation, Undo
from inference.engine.profile import EXACT

if TYPE_CHECKING:
    import torch

EXACT_ONLY = "kernels"
BOUNDED = "kernels_high"
LEFT = ("attention",)
"""Operations that are left to torch until a device has shown that ours is faster."""


def _no_triton() -> str | None:
    return None if importlib.util.find_spec("triton") else "triton is not installed"


def lacks(loaded: Loaded) -> str | None:
    """Say what keeps kernels off this pipeline, None if nothing does."""
    if "compile_regional" in loaded.mounted:
        return "compile_regional fuses the same chains"
    if BOUNDED in loaded.mounted:
        return f"{BOUNDED} does the same and more"
    return _unknown(loaded.device.device)


def _unknown(device: torch.device) -> str | None:
    import torch

    from kernels import dispatch

    # A device without a number is the one that is current.
    if device.type == "cuda" and device.index is None and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    if dispatch.arch_of(device) is not None:
        return None
    return "there are no kernels for this device"


def put(
    loaded: Loaded, quality: str, leave: Collection[str] = LEFT, *, references: bool = False
) -> Undo:
    """Mount what `quality` ("exact", "high", "fast") trusts on the denoiser and the autoencoder.

    `leave` names operations that are not to be mounted. With `references` plain torch stands in
    for the kernels, so that it runs on any device. Raises ValueError at a quality or an operation
    that there is not.
    """
    from inference.engine.lora.fused import OPERATION
    from kernels.mount.mounting import mount

    fused, before = quality != EXACT and OPERATION not in leave, loaded.fused_loras
    leave = [name for name in leave if name != OPERATION]
    models = [*loaded.denoisers, getattr(loaded.base, "vae", None)]
    with contextlib.ExitStack() as stack:  # what is on comes off again where the next one fails
        for model in models:
            if model is not None:
                mounting = mount(model, quality, leave=leave, references=references)
                stack.callback(mounting.undo)
        loaded.fused_loras = fused
        stack.callback(setattr, loaded, "fused_loras", before)
        return stack.pop_all().close


# Estimates by counted bytes, not measured: the chains of gates are a quarter of what norms, gates
# and rotations move.
KERNELS = Optimisation(
    name=EXACT_ONLY,
    summary="our kernels that change no bit: gated residuals",
    stage="denoise",
    loss=0.0,
    # After compiled blocks, which leave no room for it; before the caches, which skip blocks.
    order=37,
    apply=lambda loaded: put(loaded, "exact"),
    lacks=lacks,
    needs=Needs(device="cuda", capability=(8, 0), machine=_no_triton),
    denoise=Speedup(elementwise=1.1),
    group="fusion",
)
KERNELS_HIGH = Optimisation(
    name=BOUNDED,
    summary="our kernels: norms, gates, rotations and activations in one pass each",
    stage="denoise",
    # Each stays within a few roundings of its dtype; over many steps these add up.
    loss=0.1,
    order=36,
    apply=lambda loaded, leave: put(loaded, "high", leave),
    lacks=lacks,
    options={"leave": LEFT},
    needs=Needs(device="cuda", capability=(8, 0), machine=_no_triton),
    denoise=Speedup(elementwise=2.0),
    group="fusion",
)
