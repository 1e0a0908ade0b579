"""Multiplies by a weight and by the LoRAs of a whole batch at once, where our kernels are on.

The product then ends with what each row's own LoRAs add, and is written once. Everything else (a
convolution, a quantised weight, one that lies elsewhere) keeps the change that comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from inference.engine.lora.adapter import LowRank

if TYPE_CHECKING:
    import torch

OPERATION = "lora_linear"
Own = list[tuple[LowRank, float]]
"""The factors that one row wears at one module, and how strongly each acts."""


class After(Protocol):
    """What adds the change to what a module has given."""

    def hook(self, module: Any, given: tuple[Any, ...], out: Any) -> Any: ...


@dataclass(slots=True)
class Together:
    """The factors of a batch, by set of LoRAs that a row wears, and the set of each row.

    `down` is [sets, R, inputs], `up` [sets, outputs, R] with the scale in it; ranks below R are
    filled up with 0. `scales` are ones. `sets` is int32 [rows], -1 for rows that wear none.
    """

    down: torch.Tensor
    up: torch.Tensor
    scales: torch.Tensor
    sets: torch.Tensor

    def forward(
        self, module: Any, original: Callable[..., Any], after: After
    ) -> Callable[..., Any]:
        """Return what `module` is to run for one pass; `after` does the same in two steps."""

        def run(x: torch.Tensor) -> torch.Tensor:
            def eager() -> tuple[torch.Tensor, ...]:
                return (after.hook(module, (x,), original(x)),)

            if not self._fits(module, x):
                return eager()[0]
            from kernels import trust
            from kernels.ops.lora_linear import SPEC, lora_linear

            def fused() -> tuple[torch.Tensor, ...]:
                rows = x.reshape(len(self.sets), -1, x.shape[-1])
                factors = (self.down, self.up, self.scales, self.sets)
                out = lora_linear(rows, module.weight, module.bias, *factors)
                return (out.view(*x.shape[:-1], -1),)

            key = (x.shape, x.dtype, self.up.shape, self.down.shape[-1], module.bias is None)
            if trust.met(SPEC, key):
                return trust.run(SPEC, key, fused, eager)[0]
            plain = eager()
            # A stranger's LoRA that overflows is no fault of the kernel.
            finite = bool(plain[0].isfinite().all())
            return trust.run(SPEC, key, fused, lambda: plain)[0] if finite else plain[0]

        return run

    def _fits(self, module: Any, x: torch.Tensor) -> bool:
        """Whether the operation does what `module` would do with `x`."""
        from torch import nn

        from kernels.ops.linear import multiplies

        if type(module) is not nn.Linear or x.shape[0] % len(self.sets):
            return False
        parts = list(module.parameters(recurse=False))
        if any(type(part) is not nn.Parameter or part.device != x.device for part in parts):
            return False
        if any(part.dtype != x.dtype for part in (*parts, self.down)):
            return False
        # On a CPU the reference runs, which is how this is tested.
        return x.device.type == "cpu" or multiplies(x.dtype, x.device)


def together(own: Sequence[Own]) -> Together | None:
    """Stack what the rows of a batch wear at one module; None where it is no linear layer."""
    import torch
    from torch.nn.functional import pad

    from kernels.ops.lora_linear import MOST_RANK

    distinct = list(dict.fromkeys(tuple(lows) for lows in own if lows))
    if not distinct or distinct[0][0][0].down.ndim != 2:
        return None
    ranks = [sum(low.down.shape[0] for low, _ in lows) for lows in distinct]
    widest = max(ranks)
    if widest > MOST_RANK:
        return None
    downs = [torch.cat([low.down for low, _ in lows]) for lows in distinct]
    ups = [torch.cat([low.up * scale for low, scale in lows], 1) for lows in distinct]
    number = {lows: index for index, lows in enumerate(distinct)}
    sets = [number.get(tuple(lows), -1) for lows in own]
    return Together(
        torch.stack([pad(d, (0, 0, 0, widest - r)) for d, r in zip(downs, ranks, strict=True)]),
        torch.stack([pad(u, (0, widest - r)) for u, r in zip(ups, ranks, strict=True)]),
        torch.ones(len(distinct), device=downs[0].device),
        torch.tensor(sets, dtype=torch.int32, device=downs[0].device),
    )
