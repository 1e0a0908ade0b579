"""Counts what one picture costs in floating-point operations, with optimisations on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from inference.engine.forward import advance

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded
    from inference.engine.request import GenerationRequest


def _attention(query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _products(left: Any, right: Any, *_args: Any, **_kwargs: Any) -> int:
    return 2 * int(left[0]) * int(left[1]) * int(right[1])


_MORE = {
    # torch 2.13 counts attention of CUDA devices only, and no products of whole numbers.
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._int_mm: _products,
}


def flops_each(loaded: Loaded, requests: list[GenerationRequest]) -> float:
    """Return the mean over `requests` of all operations from text to picture.

    A multiplication with an addition is two. Code that was compiled ahead is not seen: count with
    it off, it does the same work.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_MORE)
    with torch.no_grad(), counter:
        for request in requests:
            loaded.forget_texts()
            complete = loaded.complete(request)
            (condition,) = loaded.family.encode(loaded, [complete])
            sample = loaded.family.begin(loaded, complete, condition, complete.seed_of(0))
            while sample.step < sample.steps:
                if failed := advance([sample]):
                    raise failed[sample]
            for _ in loaded.family.decode(sample):
                pass
    return float(counter.get_total_flops()) / len(requests)
