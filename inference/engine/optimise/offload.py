"""Keeps text encoders in main memory where the device is too full for them to stay.

They are half of many a model's bytes and run once a request: each layer comes to the device as it
is needed, while the one before it computes. What else can be done for memory is done when it
runs out (`inference.engine.fallback`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from inference.engine.cost import FRAGMENTATION, Architecture, decode_cost, forward_cost
from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Situation
from inference.engine.optimise.base import Optimisation, Undo
from inference.engine.shapes import Shape

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

USUAL_SHARE = 0.2
"""Share of the device that activations may need of a model that the cost model does not know."""
TEXT_TOKENS = 512
HOOKS = ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading")
"""What diffusers calls the hooks of one offloaded module."""


def text_encoders(loaded: Loaded) -> list[torch.nn.Module]:
    """Return the text encoders that a pipeline has."""
    parts = loaded.base.components.items()
    return [part for name, part in parts if name.startswith("text_encoder") and part is not None]


def needed_bytes(loaded: Loaded, memory_bytes: int) -> float:
    """Return what one request of the model's usual size needs beside the weights, in bytes."""
    family = loaded.family
    width, height = family.default_size(loaded.base)
    shape = Shape(
        width=width, height=height, num_frames=family.frames or 1, text_tokens=TEXT_TOKENS
    )
    kind = str(loaded.device.dtype).removeprefix("torch.")
    try:
        parts = Architecture.of_pipeline(loaded.base)
        costs = forward_cost(parts, shape, kind), decode_cost(parts, shape, kind)
    except (AttributeError, ValueError, TypeError, RuntimeError) as error:
        log.info("the cost model does not know a model", extra={"problem": str(error)[:200]})
        return USUAL_SHARE * memory_bytes
    return FRAGMENTATION * max(cost.peak_bytes for cost in costs)


def _missing(loaded: Loaded) -> str | None:
    import torch

    device = loaded.device.device
    if device.type != "cuda":
        return "it is for CUDA devices"
    if not text_encoders(loaded):
        return "there is no text encoder"
    free, total = torch.cuda.mem_get_info(device)
    # What this process has set aside and does not use is free too.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if free >= needed_bytes(loaded, total):
        return "all of the model fits on the device"
    return None


def _apply(loaded: Loaded) -> Undo:
    from diffusers.hooks import HookRegistry, apply_group_offloading

    device = loaded.device.device
    streams = device.type == "cuda"
    encoders = text_encoders(loaded)
    for encoder in encoders:
        apply_group_offloading(
            encoder, onload_device=device, offload_type="leaf_level", use_stream=streams
        )
    loaded.device.release()
    loaded.notes.append("text encoders wait in main memory: the device is too small for all")

    def undo() -> None:
        for encoder in encoders:
            registry: Any = HookRegistry.check_if_exists_or_initialize(encoder)
            for hook in HOOKS:
                registry.remove_hook(hook, recurse=True)
            encoder.to(device)

    return undo


def _needs(situation: Situation) -> str | None:
    if situation.device_kind != "cuda":
        return "needs a cuda device"
    return "the planner takes it when memory is short"


OFFLOAD = Optimisation(
    name="offload",
    summary="text encoders streamed from main memory, where the device is too small for all",
    stage="encode",
    loss=0.0,
    order=5,
    apply=_apply,
    missing=_missing,
    # The planner has a rung of its own for it (memory_ladder), so it never picks it for speed.
    needs=_needs,
)
