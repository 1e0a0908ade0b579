"""One LoRA as it lies on the device, ready for one base model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.engine.errors import InvalidRequestError

if TYPE_CHECKING:
    import torch

    from inference.engine.lora.formats import Factors


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """The change of one module: `up` @ `down`, what the file says of its strength included.

    `down` is [rank, inputs] or [rank, inputs, height, width], `up` is [outputs, rank].
    """

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """The changes of one LoRA by the path of the module in the denoiser; `size` is in bytes."""

    uri: str
    layers: dict[str, LowRank]
    size: int


def _shape(module: Any) -> tuple[int, ...] | None:
    """Return outputs, inputs and, for a convolution, the kernel; None for other modules."""
    import torch

    if isinstance(module, torch.nn.Conv2d):
        plain = module.groups == 1 and module.padding_mode == "zeros"
        kernel = tuple(module.kernel_size)
        return (module.out_channels, module.in_channels, *kernel) if plain else None
    outputs, inputs = (getattr(module, name, None) for name in ("out_features", "in_features"))
    # Any module that says so counts, be it a quantised one.
    return (outputs, inputs) if isinstance(outputs, int) and isinstance(inputs, int) else None


def _misfit(denoiser: Any, path: str, factors: Factors) -> str | None:
    """Return why the change of `path` does not fit, None where it does."""
    try:
        shape = _shape(denoiser.get_submodule(path))
    except AttributeError:
        return f"the model has no module {path}"
    if shape is None:
        return f"{path} is of a kind that is not adapted"
    down, up = tuple(factors.down.shape), tuple(factors.up.shape)
    if any(size != 1 for size in up[2:]) or down[0] != up[1]:
        return f"{path} has factors {list(down)} and {list(up)} that do not belong together"
    kernel = down[2:] or (1,) * len(shape[2:])
    if not shape[2:]:
        kernel = tuple(size for size in kernel if size != 1)
    if (up[0], down[1], *kernel) != shape:
        return f"{path} is {list(shape)} in the model, the LoRA is for {[up[0], down[1], *kernel]}"
    return None


def fit(denoiser: Any, uri: str, factors: dict[str, Factors], device: torch.device) -> Adapter:
    """Put a LoRA on `device` for `denoiser`. Raises InvalidRequestError at the first misfit."""
    import torch

    layers: dict[str, LowRank] = {}
    for path, pair in factors.items():
        problem = _misfit(denoiser, path, pair)
        if problem is not None:
            raise InvalidRequestError(f"loras: {uri} does not fit this model: {problem}")
        shape = _shape(denoiser.get_submodule(path))
        assert shape is not None
        rank = pair.down.shape[0]
        down = pair.down.reshape(rank, *shape[1:])
        up = pair.up.reshape(shape[0], rank).float() * pair.strength
        low = LowRank(*(t.to(device, denoiser.dtype).contiguous() for t in (down, up)))
        # What is not a number in one request's LoRA could spread to those that share its pass.
        if not all(bool(torch.isfinite(t).all()) for t in (low.down, low.up)):
            raise InvalidRequestError(f"loras: {uri} has values at {path} that are not finite")
        layers[path] = low
    tensors = [t for low in layers.values() for t in (low.down, low.up)]
    return Adapter(uri, layers, sum(t.numel() * t.element_size() for t in tensors))
