"""What is done when the device has too little memory, gentlest first, each with a word to say."""

from __future__ import annotations

from collections.abc import Callable

from inference.engine.loaded import Loaded
from inference.engine.request import GenerationRequest


def _tile_vae(loaded: Loaded) -> bool:
    vae = loaded.vae
    if not hasattr(vae, "enable_tiling") or getattr(vae, "use_tiling", False):
        return False
    vae.enable_tiling()
    return True


def _offload(loaded: Loaded) -> bool:
    if loaded.device.device.type != "cuda" or getattr(loaded.base, "_all_hooks", None):
        return False
    loaded.base.enable_model_cpu_offload(device=loaded.device.device)
    return True


LADDER: list[tuple[Callable[[Loaded], bool], str]] = [
    (_tile_vae, "memory ran out: the picture is decoded in tiles"),
    (_offload, "memory ran out: parts of the model wait in main memory"),
]


def fall_back(loaded: Loaded) -> str | None:
    """Take the next step that saves memory; return what to tell the user, None if none is left."""
    for step, note in LADDER:
        if step(loaded):
            return note
    return None


def check_size(loaded: Loaded, request: GenerationRequest) -> None:
    """Raise DeviceMemoryError where `request` can never fit on the device."""
