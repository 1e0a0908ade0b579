"""Counts the work of a denoiser that was really done, where some of its blocks were skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from inference.engine.optimise.block_cache import STACKS

if TYPE_CHECKING:
    from inference.engine.cost import Architecture
    from inference.engine.shapes import Shape


def block_shares(architecture: Architecture, shape: Shape) -> dict[str, float]:
    """Return which share of a pass's products and attention each block does, by its path.

    Counted by torch on a copy without weights, for one row.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from inference.engine.shapes import denoiser_inputs
    from inference.engine.sizes import meta_part

    parts = ((name, dict(config)) for name, config in (architecture.denoiser, architecture.vae))
    denoiser, vae = (meta_part(part, torch.bfloat16) for part in parts)
    given = denoiser_inputs(denoiser, vae, shape, torch.device("meta"), torch.bfloat16)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        denoiser(**given.arguments)
    root = type(denoiser).__name__
    whole = counter.get_total_flops()
    return {
        path: sum(counter.flop_counts[f"{root}.{path}"].values()) / whole
        for path in blocks_of(denoiser)
    }


def blocks_of(denoiser: Any) -> dict[str, Any]:
    """Return the transformer blocks by their paths, in the order that they are run."""
    return {
        f"{stack}.{number}": block
        for stack in STACKS
        for number, block in enumerate(getattr(denoiser, stack, None) or ())
    }


def done(shares: Mapping[str, float], run: Mapping[str, float]) -> float:
    """Return the share of the work that was done where each block was run for `run` of its rows."""
    return 1 - sum(share * (1 - min(1.0, run[path])) for path, share in shares.items())


class RowCounter:
    """Counts the rows that each block of an eager denoiser is called for."""

    def __init__(self, denoiser: Any) -> None:
        self.rows = dict.fromkeys(blocks_of(denoiser), 0)
        self._hooks = [
            block.register_forward_pre_hook(self._count(path), with_kwargs=True)
            for path, block in blocks_of(denoiser).items()
        ]

    def _count(self, path: str) -> Callable[[Any, Any, Any], None]:
        def count(_block: Any, args: Any, kwargs: Any) -> None:
            self.rows[path] += len(args[0] if args else kwargs["hidden_states"])

        return count

    def reset(self) -> None:
        """Begin anew."""
        self.rows = dict.fromkeys(self.rows, 0)

    def close(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
