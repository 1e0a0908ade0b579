"""Adds the low-rank changes of each row's LoRAs to one forward pass that all rows share.

Nothing stays on the model: hooks are there for the length of a pass that needs them, so that a
pass without LoRAs runs the very same code as before any was used.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.engine.lora.adapter import Adapter, LowRank
from inference.engine.lora.fused import Together, together

if TYPE_CHECKING:
    import torch

    from inference.engine.sample import Row, Sample

KEY = "loras"
"""Where a sample's memory holds the LoRAs it wears."""
APART_FROM = 3
"""Rows have factors of their own where all ranks are this many times those of the widest row."""
PLANS_KEPT = 4
"""Batches whose stacked factors are remembered from step to step."""

Worn = tuple[tuple[Adapter, float], ...]
"""LoRAs and how strongly each acts."""


@dataclass(slots=True)
class _Change:
    """What one module adds in one batch.

    The factors of all LoRAs of the batch lie side by side, ranks in all [R]: one pair of products
    serves all rows. `scale` is [rows, R], 0 where a row does not wear the LoRA; `off` marks those
    places, None where there are none.
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: torch.Tensor
    off: torch.Tensor | None

    def _weigh(self, inner: torch.Tensor, middle: int) -> torch.Tensor:
        """Scale [batch, ..., R] (middle 1) or [batch, R, pixels] (middle 2) row by row.

        What a row does not wear is put to 0 rather than multiplied by it, so that an overflow in
        one request's LoRA stays its own.
        """
        weighed = (inner * self.scale.unsqueeze(middle)).to(inner.dtype)
        return weighed if self.off is None else weighed.masked_fill(self.off.unsqueeze(middle), 0)

    def linear(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return `out` [batch, ..., outputs] with the change for `x` [batch, ..., inputs]."""
        rows = _rows(x, len(self.scale))
        inner = x.to(self.down.dtype).reshape(rows, -1, x.shape[-1]) @ self.down.t()
        weighed = self._weigh(inner, 1).flatten(0, 1)
        if out.dtype != weighed.dtype or not out.is_contiguous():
            return out + (weighed @ self.up.t()).reshape(out.shape).to(out.dtype)
        # What a module has just returned is nobody else's yet.
        out.view(-1, out.shape[-1]).addmm_(weighed, self.up.t())
        return out

    def convolve(self, module: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return `out` [batch, outputs, height, width] with the change for `x`."""
        from torch.nn.functional import conv2d

        inner = conv2d(
            x.to(self.down.dtype),
            self.down,
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
        )
        rows = _rows(x, len(self.scale))
        if inner.shape[0] != rows:
            raise ValueError("a convolution sees several pictures a row")
        added = self.up @ self._weigh(inner.flatten(2), 2)
        return out + added.reshape(out.shape).to(out.dtype)

    def hook(self, module: Any, given: tuple[Any, ...], out: Any) -> Any:
        """Add the change after the module has run."""
        if self.down.ndim == 4:
            return self.convolve(module, given[0], out)
        return self.linear(given[0], out)


@dataclass(slots=True)
class _ApartChange:
    """What a linear module adds where the rows wear many LoRAs: each row has factors of its own.

    `down` is [rows, inputs, R], `up` [rows, R, outputs] with the scale in it; ranks below R are
    filled up with 0.
    """

    down: torch.Tensor
    up: torch.Tensor

    def hook(self, module: Any, given: tuple[Any, ...], out: Any) -> Any:
        """Add the change after the module has run."""
        x = given[0]
        rows = _rows(x, self.down.shape[0])
        inner = x.to(self.down.dtype).reshape(rows, -1, x.shape[-1]) @ self.down
        if out.dtype != inner.dtype or not out.is_contiguous():
            return out + (inner @ self.up).reshape(out.shape).to(out.dtype)
        out.view(rows, -1, out.shape[-1]).baddbmm_(inner, self.up)
        return out


@dataclass(slots=True)
class _Fused:
    """A change that our kernel makes with the product itself; `after` where it cannot."""

    after: _Change | _ApartChange
    together: Together


Plan = dict[str, "_Change | _ApartChange | _Fused"]


def _rows(x: torch.Tensor, rows: int) -> int:
    """Return the number of rows, which lead every tensor inside of a denoiser."""
    if x.shape[0] % rows:
        raise ValueError(f"a module sees {x.shape[0]} entries for {rows} rows")
    return rows


def _own(rows: list[Worn], path: str) -> list[list[tuple[LowRank, float]]]:
    """Return the factors that each row wears at one module."""
    return [[(a.layers[path], scale) for a, scale in w if path in a.layers] for w in rows]


def _apart(rows: list[Worn], path: str) -> _ApartChange | None:
    """Give each row its own factors of a linear module; None where sharing is no dearer.

    Sharing multiplies every row by the ranks of all LoRAs, which is cheap while they are few.
    """
    import torch
    from torch.nn.functional import pad

    own = _own(rows, path)
    distinct = {low: low.down.shape[0] for lows in own for low, _ in lows}
    widest = max(sum(low.down.shape[0] for low, _ in lows) for lows in own)
    some = next(iter(distinct))
    if some.down.ndim != 2 or sum(distinct.values()) < APART_FROM * widest:
        return None
    none = LowRank(some.down[:0], some.up[:, :0])
    downs = [torch.cat([low.down for low, _ in [*lows, (none, 1.0)]]) for lows in own]
    ups = [torch.cat([low.up * s for low, s in [*lows, (none, 1.0)]], 1) for lows in own]
    down = torch.stack([pad(d, (0, 0, 0, widest - d.shape[0])) for d in downs])
    up = torch.stack([pad(u, (0, widest - u.shape[1])) for u in ups])
    return _ApartChange(*(t.transpose(1, 2).contiguous() for t in (down, up)))


def _columns(
    rows: list[Worn], adapters: list[Adapter], path: str
) -> tuple[list[LowRank], list[list[float]]]:
    """Return the factors of `path` and, by row, the scale of each of their ranks."""
    layers = [(adapter, adapter.layers[path]) for adapter in adapters if path in adapter.layers]
    scales = []
    for worn in rows:
        strength: dict[Adapter, float] = {}
        for adapter, scale in worn:
            strength[adapter] = strength.get(adapter, 0.0) + scale
        scales.append([strength.get(a, 0.0) for a, low in layers for _ in range(low.down.shape[0])])
    return [low for _, low in layers], scales


def _fused(rows: list[Worn]) -> Plan:
    """Plan for our kernel, where a module's change is one that it can make."""
    plan = _plan(rows)
    for path, after in plan.items():
        stacked = together(_own(rows, path))
        if stacked is not None and not isinstance(after, _Fused):
            plan[path] = _Fused(after, stacked)
    return plan


def _plan(rows: list[Worn]) -> Plan:
    """Put the factors of every LoRA in a batch side by side, module by module."""
    import torch

    adapters = list(dict.fromkeys(adapter for worn in rows for adapter, _ in worn))
    paths = dict.fromkeys(path for adapter in adapters for path in adapter.layers)
    masks: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
    plan: Plan = {}
    for path in paths:
        apart = _apart(rows, path)
        if apart is not None:
            plan[path] = apart
            continue
        lows, scales = _columns(rows, adapters, path)
        alone = len(lows) == 1
        down = lows[0].down if alone else torch.cat([low.down for low in lows])
        up = lows[0].up if alone else torch.cat([low.up for low in lows], dim=1)
        key = repr(scales)
        if key not in masks:
            scale = torch.tensor(scales, device=down.device)
            off = scale == 0
            masks[key] = (scale, off if any(0.0 in row for row in scales) else None)
        plan[path] = _Change(down, up, *masks[key])
    return plan


class Plans:
    """The plans of the batches that ran last, with the tensors that they hold."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bool, tuple[Worn, ...]], Plan] = OrderedDict()

    def of(self, rows: list[Worn], *, fused: bool = False) -> Plan:
        """Return what the modules add for a batch, `fused` with their products by our kernel."""
        key = (fused, tuple(rows))
        if key not in self._kept:
            self._kept[key] = _fused(rows) if fused else _plan(rows)
            while len(self._kept) > PLANS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def forget(self) -> None:
        """Drop all plans, so that none keeps a LoRA's memory."""
        self._kept.clear()


@dataclass(frozen=True, slots=True)
class Outfit:
    """What a sample keeps in its memory: the LoRAs it wears, and the engine's plans."""

    worn: Worn
    plans: Plans


def wear(sample: Sample, outfit: Outfit | None) -> None:
    """Let `sample` run with these LoRAs from now on."""
    if outfit is not None:
        sample.memory[KEY] = outfit


def _uncompiled() -> Callable[[], Any] | None:
    """Return a context in which compiled modules run as they were written, None if not needed.

    Compiled code does not look for hooks that came later.
    """
    if "torch._dynamo" not in sys.modules:
        return None
    import torch

    return lambda: torch.compiler.set_stance("force_eager")


def _replace(module: Any, change: _Fused, stack: ExitStack) -> None:
    """Let `module` run the fused product until `stack` is closed."""
    before = module.__dict__.get("forward")
    module.forward = change.together.forward(module, module.forward, change.after)

    def back() -> None:
        if before is None:
            del module.forward
        else:
            module.forward = before

    stack.callback(back)


@contextmanager
def applied(rows: list[Row]) -> Iterator[None]:
    """Run one forward pass with the LoRAs of its rows. Cheap where there are none."""
    outfits = [row.sample.memory.get(KEY) for row in rows]
    plans = next((outfit.plans for outfit in outfits if outfit is not None), None)
    if plans is None:
        yield
        return
    worn = [() if outfit is None else outfit.worn for outfit in outfits]
    loaded = rows[0].sample.loaded
    denoiser = getattr(loaded.denoiser, "_orig_mod", loaded.denoiser)
    with ExitStack() as stack:
        for path, change in plans.of(worn, fused=loaded.fused_loras).items():
            module = denoiser.get_submodule(path)
            if isinstance(change, _Fused):
                _replace(module, change, stack)
            else:
                stack.callback(module.register_forward_hook(change.hook).remove)
        eager = _uncompiled()
        if eager is not None:
            stack.enter_context(eager())
        yield
