"""Runs one request over several devices: its rows apart, or its tokens apart.

Every device is one process (rank) that holds the whole model and takes the same steps with the
same inputs; `torch.distributed` must be initialised (NCCL on GPUs, gloo on CPUs). Both ways
are put on a loaded pipeline on every rank, and taken off by the function they return.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from inference.engine.forward import current_rows, only
from inference.engine.optimise.base import Undo
from inference.engine.sample import Inputs

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

    from inference.engine.loaded import Loaded

DENOISERS = ("transformer", "transformer_2")
"""Where a pipeline keeps transformers; those of two experts have a second one."""


def split_rows(loaded: Loaded, group: ProcessGroup | None = None) -> Undo:
    """Give the rows of each forward pass to the ranks of `group` in turn; return the undo.

    With two ranks the first runs the negative branch and the second the positive one (CFG
    parallelism: xDiT, arXiv 2411.01738), and each gets the predictions of both. Rows that the
    ranks cannot share evenly, such as a single one, are run by all of them.

    Raises ValueError where there are fewer than two ranks.
    """
    if _ranks(group) < 2:
        raise ValueError("rows are split over at least 2 ranks")
    whole = loaded.predict

    def predict(inputs: Inputs, shared: dict[str, Any]) -> torch.Tensor:
        return _predict_apart(whole, inputs, shared, group)

    loaded.predict = predict

    def undo() -> None:
        loaded.predict = whole

    return undo


def _predict_apart(
    predict: Callable[[Inputs, dict[str, Any]], torch.Tensor],
    inputs: Inputs,
    shared: dict[str, Any],
    group: ProcessGroup | None,
) -> torch.Tensor:
    """Return the predictions of all rows, [rows, ...], of which this rank makes its part."""
    import torch
    import torch.distributed as dist

    ranks, rank = dist.get_world_size(group), dist.get_rank(group)
    if len(next(iter(inputs.values()))) % ranks:
        # The positive branch is the last rank's, which thus remembers most of a single row. That
        # all go on with its prediction keeps them together whatever the others remember.
        whole: torch.Tensor = predict(inputs, shared).contiguous()
        dist.broadcast(whole, group=group, group_src=ranks - 1)
        return whole
    rows = current_rows()
    with only(None if rows is None else rows[rank::ranks]):
        mine = {name: tensor[rank::ranks] for name, tensor in inputs.items()}
        part = predict(mine, shared).contiguous()
    parts = [torch.empty_like(part) for _ in range(ranks)]
    dist.all_gather(parts, part, group=group)
    return torch.stack(parts, dim=1).flatten(0, 1)


def split_tokens(loaded: Loaded, degree: int) -> Undo:
    """Give each of `degree` ranks a part of the tokens of every row; return the undo.

    Attention exchanges tokens for heads and back (Ulysses, arXiv 2309.14509) by diffusers' own
    context parallelism, so the model's heads, and the tokens of each request, must be a multiple
    of `degree`.

    Raises ValueError where the model has no plan for it, its heads do not divide, or there are
    fewer ranks than `degree`.
    """
    modules = [getattr(loaded.base, name, None) for name in DENOISERS]
    modules = [module for module in modules if module is not None]
    if not modules:
        raise ValueError(f"{type(loaded.denoiser).__name__} cannot be split over its tokens")
    for module in modules:
        _check_tokens_split(module, degree)
    try:
        for module in modules:
            _enable_ulysses(module, degree)
    except BaseException:
        _disable(modules)
        raise

    return lambda: _disable(modules)


def _check_tokens_split(module: Any, degree: int) -> None:
    """Raise ValueError where `module` cannot be split over `degree` ranks."""
    name, heads = type(module).__name__, module.config.get("num_attention_heads")
    if degree < 2:
        raise ValueError("tokens are split over at least 2 ranks")
    if getattr(module, "_cp_plan", None) is None or heads is None:
        raise ValueError(f"{name} cannot be split over its tokens")
    if getattr(module, "_parallel_config", None) is not None:
        raise ValueError(f"{name} is split already")
    if heads % degree:
        raise ValueError(f"{name} has {heads} attention heads, not a multiple of {degree} ranks")
    if _ranks(None) < degree:
        raise ValueError(f"tokens are to be split over {degree} ranks, of {_ranks(None)}")


def _enable_ulysses(module: Any, degree: int) -> None:
    from diffusers import ContextParallelConfig

    with _a_device_on_cpu():
        module.enable_parallelism(config=ContextParallelConfig(ulysses_degree=degree))


def _disable(modules: list[Any]) -> None:
    """Undo `enable_parallelism`, which diffusers has no word for as a whole."""
    from diffusers.hooks.context_parallel import remove_context_parallel

    for module in modules:
        remove_context_parallel(module, module._cp_plan)
        module._parallel_config = None
        for part in module.modules():
            processor = getattr(part, "processor", None)
            if getattr(processor, "_parallel_config", None) is not None:
                processor._parallel_config = None  # type: ignore[union-attr]


@contextlib.contextmanager
def _a_device_on_cpu() -> Iterator[None]:
    """Count one device where there is no accelerator: diffusers divides by their number."""
    import torch

    count = torch.accelerator.device_count
    if count() == 0:
        torch.accelerator.device_count = lambda: 1
    try:
        yield
    finally:
        torch.accelerator.device_count = count


def _ranks(group: ProcessGroup | None) -> int:
    """Return the number of ranks, 1 where `torch.distributed` is not initialised."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(group)
