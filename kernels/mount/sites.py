"""Where chains begin in a model, told by types and signatures of modules, not by its name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import torch
from torch import nn

from kernels.mount.chains import Norm


def norm_of(module: nn.Module, x: torch.Tensor) -> Norm | str:
    """Describe what a norm module does to `x`, or say why no kernel does the same."""
    kind = type(module).__name__
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if any(w is not None and (w.device != x.device or w.ndim != 1) for w in (weight, bias)):
        return "its weights lie elsewhere, or are not one row"
    same = all(w is None or w.dtype == x.dtype for w in (weight, bias))
    if isinstance(module, nn.LayerNorm):
        if kind != "FP32LayerNorm" and not same:
            return "its weights have another dtype"
        return Norm("layer", weight, bias, module.eps, "norm")
    if not same:
        return "its weights have another dtype"
    if type(module) is nn.RMSNorm:
        eps = module.eps if module.eps is not None else torch.finfo(torch.float32).eps
        return Norm("rms", weight, None, eps, "norm")
    rounding = "norm" if weight is None else "each"
    return Norm("rms", weight, bias, float(module.eps), rounding)  # type: ignore[arg-type]


def is_norm(module: nn.Module) -> bool:
    """Whether `module` is a norm that `norm_of` knows, over the last dimension."""
    if type(module) is nn.LayerNorm or type(module) is nn.RMSNorm:
        return len(module.normalized_shape) == 1
    kind, home = type(module).__name__, type(module).__module__
    return home == "diffusers.models.normalization" and kind in ("FP32LayerNorm", "RMSNorm")


def activation_of(module: nn.Module) -> str | None:
    """Name the activation of a gated linear unit of diffusers, None for any other module."""
    if type(module).__module__ != "diffusers.models.activations":
        return None
    return {"GEGLU": "gelu", "SwiGLU": "silu"}.get(type(module).__name__)


def why_no_norm(module: nn.Module) -> str | None:
    """Say why a module that is named a norm is left as it is; None for anything else."""
    kind = type(module).__name__
    if not kind.endswith("Norm") or is_norm(module) or kind == "GroupNorm":
        return None  # of what is over channels another module tells
    return f"no operation does what {kind} does"


def blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Find transformer blocks: they take hidden_states first and have an attention inside."""
    for path, module in model.named_modules():
        names = list(inspect.signature(type(module).forward).parameters)[1:2]
        if names == ["hidden_states"] and any(_is_attention(m) for m in module.children()):
            yield path, module


def branches(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Find the parts of a block whose results are gated and added to the residual."""
    for name, module in block.named_children():
        if _is_attention(module) or type(module).__name__ == "FeedForward" or name == "proj_out":
            yield name, module


def _is_attention(module: nn.Module) -> bool:
    return hasattr(module, "to_q") and hasattr(module, "processor")
