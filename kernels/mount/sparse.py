"""Lets the self-attention of video models attend to part of the video: windows of tiles, or blocks.

Tokens go into the order of tiles around every attention and back. The video's size is read where
the model is called. Cross-attention, the first layers if asked and what is no video stay dense.
"""

from __future__ import annotations

import functools
import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kernels import trust
from kernels.mount import attending
from kernels.mount.attending import Call
from kernels.mount.lazy import idle
from kernels.mount.mounting import Mounting
from kernels.ops.attention import common, sliding_tile, video_sparse
from kernels.ops.attention.sliding_tile import Triple, block_of, from_tiles, tiling, to_tiles

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Windows:
    """Sliding tile attention: `tile` in tokens and `window` in tiles, over time, height, width."""

    tile: Triple = (6, 8, 8)
    window: Triple = (3, 3, 3)

    def __post_init__(self) -> None:
        _whole(self.tile, "tile")
        _whole(self.window, "window")
        if any(size % 2 == 0 for size in self.window):
            raise ValueError(f"window has odd numbers of tiles, not {self.window}")

    def attend(
        self, rows: Rows, grid: Triple, scale: float | None, *, reference: bool = False
    ) -> torch.Tensor:
        """Attend over q, k and v [B, S, H, D] in tile order of `grid`."""
        sizes = ([*grid], [*self.tile], [*self.window])
        operation = sliding_tile.sliding_tile_attention
        run = sliding_tile.sliding_tile_attention_ref if reference else operation
        return run(*rows, *sizes, scale)[0]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Video sparse attention: of all tiles the part `density`, chosen anew by each block's mean.

    A model that was not trained with it has no gate for what the means see: none is added.
    """

    tile: Triple = (4, 4, 4)
    density: float = 0.3

    def __post_init__(self) -> None:
        _whole(self.tile, "tile")
        if not 0 < self.density <= 1:
            raise ValueError(f"density is above 0 and at most 1, not {self.density}")

    def attend(
        self, rows: Rows, grid: Triple, scale: float | None, *, reference: bool = False
    ) -> torch.Tensor:
        """Attend over q, k and v [B, S, H, D] in tile order of `grid`."""
        block = block_of(self.tile)
        starts = tiling(grid, self.tile, block, rows[0].device).starts
        chosen = max(1, math.ceil(self.density * (starts.numel() - 1)))
        operation = video_sparse.video_sparse_attention
        run = video_sparse.video_sparse_attention_ref if reference else operation
        return run(*rows, None, starts, block, chosen, scale)[0]


Method = Windows | Blocks


class _Now(threading.local):
    """The size of the video, in tokens, that this thread's model is at."""

    grid: Triple | None = None


_now = _Now()


def mount_sparse(
    model: nn.Module, method: Method, *, dense_layers: int = 0, references: bool = False
) -> Mounting:
    """Let all self-attentions of `model` but the first `dense_layers` attend by `method`.

    Raises ValueError where the model does not say how large its video is, or has nothing to mount
    on. `references` as in `mount`.
    """
    signature = inspect.signature(type(model).forward)
    if not _tells_size(model, signature):
        raise ValueError(f"{type(model).__name__} is no video model whose size is known")
    mounting = Mounting("fast", references=references)
    found = [(path, module) for path, module, head in attending.attentions(model)
             if references or head in common.HEADS]  # fmt: skip
    found = [(path, module) for path, module in found if not _crosses(module)]
    for number, (path, module) in enumerate(found):
        if number < dense_layers:
            mounting.left[path] = "one of the first layers"
            continue
        mounting.sites[path] = f"{type(method).__name__.lower()} of {method.tile}"
        mounting.replace(module, _attention_forward(module, method, mounting))
    if not mounting.sites:
        raise ValueError("no self-attention with heads of 64 or 128 channels is left")
    mounting.replace(model, _model_forward(model, signature))
    return mounting


def problem_with(method: Method, head: int, device: torch.device, dtype: torch.dtype) -> str | None:
    """Try the kernels on random numbers beside their reference; say what is wrong, None if nothing.

    The video has two tiles along each axis, and one more token than these.
    """
    if dtype not in common.DTYPES:
        return f"kernels attend in bfloat16 or float16, not in {dtype}"
    frames, height, width = (2 * size + 1 for size in method.tile)
    grid = (frames, height, width)
    generator = torch.Generator(device).manual_seed(0)
    size = (1, math.prod(grid), 2, head)
    q, k, v = (torch.randn(size, generator=generator, device=device, dtype=dtype) for _ in range(3))
    try:
        with torch.inference_mode():
            got = method.attend((q, k, v), grid, None).float()
            want = method.attend((q, k, v), grid, None, reference=True).float()
            difference = float((got - want).abs().max() / want.abs().max())
    except Exception as error:  # what compilers raise is theirs
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    if not difference <= 2 * common.BOUND[dtype]:
        return f"it differs from its reference by {difference:.2g}"
    return None


def _whole(sizes: Triple, name: str) -> None:
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"{name} has three whole numbers above 0, not {sizes}")


def _tells_size(model: nn.Module, signature: inspect.Signature) -> bool:
    names = set(signature.parameters)
    if {"num_frames", "height", "width"} <= names:
        return True
    patch = getattr(getattr(model, "config", None), "patch_size", None)
    return "hidden_states" in names and isinstance(patch, tuple | list) and len(patch) == 3


def _crosses(module: nn.Module) -> bool:
    """Whether `module` is known to attend to words only."""
    return bool(getattr(module, "is_cross_attention", False))


def _grid(model: Any, given: dict[str, Any]) -> Triple | None:
    """Return frames, height and width in tokens of the video that `model` was called with."""
    told = [given.get(name) for name in ("num_frames", "height", "width")]
    if all(isinstance(size, int) for size in told):
        return told[0], told[1], told[2]  # type: ignore[return-value]
    x = given.get("hidden_states")
    if not isinstance(x, torch.Tensor) or x.ndim != 5:
        return None
    frames, height, width = (
        n // size for n, size in zip(x.shape[2:], model.config.patch_size, strict=True)
    )
    return frames, height, width


def _model_forward(model: nn.Module, signature: inspect.Signature) -> Callable[..., Any]:
    original = model.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        before = _now.grid
        _now.grid = _grid(model, signature.bind(model, *args, **kwargs).arguments)
        try:
            return original(*args, **kwargs)
        finally:
            _now.grid = before

    return forward


def _attention_forward(module: nn.Module, method: Method, mounting: Mounting) -> Callable[..., Any]:
    original = module.forward
    signature = inspect.signature(type(module).forward)
    within = attending.forward_within(module, lambda call: _attend(call, method, mounting))

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if idle() or _now.grid is None:
            return original(*args, **kwargs)
        given = signature.bind(module, *args, **kwargs).arguments
        if given.get("encoder_hidden_states") is not None:
            return original(*args, **kwargs)
        return within(*args, **kwargs)

    return forward


def _attend(call: Call, method: Method, mounting: Mounting) -> torch.Tensor | None:
    """Attend sparsely over a whole video without a mask; None for anything else."""
    q, k, v = call.query, call.key, call.value
    grid = _now.grid
    # What is compared with eager steps must not choose other blocks for a rounding.
    if grid is None or call.attn_mask is not None or trust.comparing():
        return None
    if not attending.fits(call) or not q.shape[2] == k.shape[2] == math.prod(grid):
        return None
    if not mounting.runs_on(q.device) or not (mounting.references or common.usable(q, k, v)):
        return None
    q, k, v = (to_tiles(x.transpose(1, 2), grid, method.tile) for x in (q, k, v))
    out = method.attend((q, k, v), grid, call.scale)
    return from_tiles(out, grid, method.tile).transpose(1, 2)
