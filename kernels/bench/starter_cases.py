"""Calls of operations by the two small models that ship, which run on CPUs, and their chains.

starter-image is a FLUX of width 128 with an AutoencoderKL: 128 x 128 pixels, 64 tokens and 32
words. starter-video is a Wan of width 192 with its own decoder: 17 frames of 64 x 64, 80 tokens.
Guidance makes two rows of a request; sixteen requests at once make 32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from kernels.bench.row_cases import turned
from kernels.cpu.register import OPERATIONS
from kernels.ops.eight_bits import eight_bits_ref
from kernels.spec import NAMES

ROWS = (2, 32)
DTYPES = (torch.float32, torch.bfloat16)
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `make` draws its arguments, `eager` is what diffusers does in its place.

    `part` is what of the model calls it; both of `eager` and the operation take the arguments.
    """

    op: str
    model: str
    part: str
    dtype: torch.dtype
    make: Callable[[], tuple[Any, ...]]
    eager: Callable[..., Any]

    @property
    def shape(self) -> str:
        """The shape of the first argument."""
        return "x".join(map(str, self.make()[0].shape))

    @property
    def name(self) -> str:
        """Words for all of it."""
        return f"{self.op}/{self.model}/{self.part}/{self.shape}/{NAMES[self.dtype]}"

    def ours(self, *args: Any) -> Any:
        """Call the operation; one in place gives what it was given."""
        made = OPERATIONS[self.op][0](*args)
        return args[:2] if made is None else made


def every() -> Iterator[Call]:
    """All calls, of one request and of sixteen, in float32 and in bfloat16."""
    for dtype in DTYPES:
        for rows in ROWS:
            yield from _transformer("starter-image", dtype, rows, (32, 96), 128, "each")
            yield from _transformer("starter-video", dtype, rows, (80,), 192, "end")
            yield from _products("starter-image", dtype, rows * 96, 128)
        yield from _decoders(dtype)


def _draw(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(shape).to(dtype)


def _given(*parts: Any) -> Callable[[], tuple[Any, ...]]:
    """Return what makes arguments: parts that can be called are called anew each time."""
    return lambda: tuple(part() if callable(part) else part for part in parts)


def _transformer(
    model: str, dtype: torch.dtype, rows: int, lengths: tuple[int, ...], width: int, rounding: str
) -> Iterator[Call]:
    image = model == "starter-image"
    # Wan modulates in float32 whatever its weights are, and rounds at the end.
    other = dtype if image else torch.float32
    normed = "norm" if image else "end"

    def wide(*operands: torch.Tensor) -> Iterator[torch.Tensor]:
        return (x if image else x.float() for x in operands)

    def modulated(x: torch.Tensor, _w: Any, _b: Any, m: Any, s: Any, *_: Any) -> torch.Tensor:
        (h,) = wide(x)
        return (F.layer_norm(h, (width,), eps=1e-6) * m + s).to(x.dtype)

    def gated(r: torch.Tensor, y: torch.Tensor, g: torch.Tensor, *_: Any) -> torch.Tensor:
        a, b = wide(r, y)
        return (a + b * g).to(r.dtype)

    def both(r: Any, y: Any, g: Any, w: Any, b: Any, m: Any, s: Any, *_: Any) -> Any:
        total = gated(r, y, g)
        return total, modulated(total, w, b, m, s)

    for tokens in lengths:
        x = functools.partial(_draw, dtype, rows, tokens, width)
        row = functools.partial(_draw, other, rows, 1, width)
        yield Call(
            "norm", model, "block", dtype,
            _given(x, None, None, row, row, 1e-6, "layer", normed),
            modulated,
        )  # fmt: skip
        yield Call(
            "gated_residual", model, "block", dtype,
            _given(x, x, row, rounding), gated,
        )  # fmt: skip
        yield Call(
            "gated_residual_norm", model, "block", dtype,
            _given(x, x, row, None, None, row, row, 1e-6, "layer", rounding, normed),
            both,
        )  # fmt: skip
        yield Call(
            "qk_norm_rope", model, "attention", dtype,
            functools.partial(_rope, dtype, rows, tokens, width, 32 if image else width),
            _turn if image else _turn_wan,
        )  # fmt: skip


def _rope(dtype: torch.dtype, rows: int, tokens: int, width: int, normed: int) -> tuple[Any, ...]:
    angles = torch.rand(tokens, 16).mul(6)
    tables = [turn(angles).repeat_interleave(2, -1) for turn in (torch.cos, torch.sin)]
    both = [_draw(dtype, rows, tokens, width) for _ in range(2)]
    return *both, *(_draw(dtype, normed) for _ in range(2)), *tables, 1e-6


def _turn(q: torch.Tensor, k: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    weights, tables = rest[:2], rest[2:4]
    return turned(q, weights[0], *tables), turned(k, weights[1], *tables)


def _turn_wan(q: torch.Tensor, k: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Norm and rotate in the steps of diffusers' Wan."""
    found = []
    for x, weight in zip((q, k), rest[:2], strict=True):
        cosine, sine = (table[None, :, None, 0::2] for table in rest[2:4])
        heads = F.rms_norm(x, (x.shape[-1],), weight, 1e-6)
        heads = heads.unflatten(2, (-1, rest[2].shape[-1]))
        even, odd = heads.unflatten(-1, (-1, 2)).unbind(-1)
        out = torch.empty_like(heads)
        out[..., 0::2] = even * cosine - odd * sine
        out[..., 1::2] = even * sine + odd * cosine
        found.append(out.type_as(x).flatten(2))
    return found[0], found[1]


def _products(model: str, dtype: torch.dtype, rows: int, width: int) -> Iterator[Call]:
    def make() -> tuple[Any, ...]:
        x, weight = _draw(dtype, rows, width), _draw(dtype, 4 * width, width)
        eight = (*eight_bits_ref(x, "int8"), *eight_bits_ref(weight, "int8"))
        return *eight, _draw(dtype, 4 * width), "gelu_tanh", dtype

    quantise, product = OPERATIONS["quantise_rows"][1], OPERATIONS["w8a8_linear"][1]
    yield Call(
        "quantise_rows", model, "linear", dtype,
        lambda: (_draw(dtype, rows, width), "int8"), quantise.reference,
    )  # fmt: skip
    yield Call("w8a8_linear", model, "linear", dtype, make, product.reference)


def _decoders(dtype: torch.dtype) -> Iterator[Call]:
    def image(x: torch.Tensor, weight: Any, bias: Any, groups: int, eps: float) -> torch.Tensor:
        return F.silu(F.group_norm(x, groups, weight, bias, eps))

    def video(x: torch.Tensor, gamma: torch.Tensor, *_: Any) -> torch.Tensor:
        shape = (-1, *(1,) * (x.ndim - 2))
        return F.silu(F.normalize(x, dim=1) * x.shape[1] ** 0.5 * gamma.view(shape) + 0.0)

    for channels, side, last in (
        (64, 16, True), (64, 64, True), (32, 128, True), (16, 128, True), (16, 128, False),
        (32, 128, False),
    ):  # fmt: skip
        x = functools.partial(_plane, dtype, (1, channels, side, side), last)
        row = functools.partial(_draw, dtype, channels)
        yield Call(
            "group_norm_silu", "starter-image", "decoder", dtype,
            _given(x, row, row, 8, 1e-6), image,
        )  # fmt: skip
    for channels, frames, side, last in (
        (64, 1, 8, True), (64, 2, 16, True), (32, 4, 32, True), (16, 4, 32, True),
        (16, 4, 32, False),
    ):  # fmt: skip
        x = functools.partial(_plane, dtype, (1, channels, frames, side, side), last)
        row = functools.partial(_draw, dtype, channels)
        yield Call(
            "rms_norm_silu", "starter-video", "decoder", dtype,
            _given(x, row, None, 1e-12, False), video,
        )  # fmt: skip


def _plane(dtype: torch.dtype, shape: tuple[int, ...], last: bool) -> torch.Tensor:
    x = _draw(dtype, *shape)
    return x.contiguous(memory_format=LAST[len(shape)]) if last else x
