"""Attention, dense and sparse, on the sequences of models, and what rivals it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels.bench.case import ELEMENT, OTHER_WORK, Case, Results, Run, draw
from kernels.bench.product_cases import relative, some
from kernels.ops.attention import block_sparse, dense, int8, sliding_tile, video_sparse

ROWS = 64
"""Queries that are compared with attention in float32."""
SPARSE = 0.1
"""Part of the blocks that sparse attention keeps."""
LOOSE = 2**-6
"""Backends of torch round the probabilities as ours do, some of them the scores as well."""
Grid = tuple[int, int, int]

# Tokens, heads, channels of a head.
DENSE = (
    ("Wan-1.3B", 32760, 12, 128),
    ("Wan-5B", 27280, 24, 128),
    ("FLUX", 4608, 24, 128),
    ("SDXL", 4096, 10, 64),
)
# Frames, height and width in tokens, heads; the tile of sliding windows, 126 and 128 tokens.
VIDEOS: tuple[tuple[str, Grid, int, Grid], ...] = (
    ("Wan-1.3B", (21, 30, 52), 12, (3, 6, 7)),
    ("Wan-5B", (31, 22, 40), 24, (4, 4, 8)),
)
HEAD = 128
TILE: Grid = (4, 4, 4)  # of video sparse attention: a block of 64


def every(shrink: int) -> Iterator[Case]:
    """All cases with 1/shrink of the tokens."""
    for model, tokens, heads, head in DENSE:
        yield _dense(model, max(1, tokens // shrink), None, heads, head)
    yield _dense("Wan-1.3B", max(1, 32760 // shrink), 512, 12, 128)
    yield _varlen("FLUX", [max(1, n // shrink) for n in (4608, 4352, 4224, 4608)], 24)
    for model, grid, heads, tile in VIDEOS:
        less = max(1, round(shrink ** (1 / 3)))
        small: Grid = (-(-grid[0] // less), -(-grid[1] // less), -(-grid[2] // less))
        for block in block_sparse.BLOCKS:
            yield _block_sparse(model, max(1, grid[0] * grid[1] * grid[2] // shrink), heads, block)
        yield _sliding(model, small, heads, tile)
        yield _video_sparse(model, small, heads)
    yield _int8("Wan-1.3B", max(1, 32760 // shrink), 12)
    yield _int8("FLUX", max(1, 4608 // shrink), 24)


def _sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any) -> torch.Tensor:
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def _by(backend: SDPBackend) -> Run:
    def run(*given: Any) -> torch.Tensor:
        with sdpa_kernel([backend]):
            return _sdpa(*given)

    return run


@functools.cache
def _backends() -> dict[str, Run]:
    """Backends of torch, but the one that writes all scores to memory."""
    if not torch.cuda.is_available():
        return {}
    return {
        "flash": _by(SDPBackend.FLASH_ATTENTION),
        "cudnn": _by(SDPBackend.CUDNN_ATTENTION),
        "efficient": _by(SDPBackend.EFFICIENT_ATTENTION),
    }


def truth(
    given: tuple[Any, ...], at: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attend from the queries `at` in float32; mask [H or 1, queries, S] is true where they see."""
    q, k, v = (t.float() for t in (given[0][:, at], *given[1:3]))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)


def _check(given: tuple[Any, ...], results: Results) -> float:
    at = some(given[0].shape[1], given[0].device, ROWS)
    return relative(results[0][:, at], truth(given, at))


def _qkv(
    device: torch.device, dtype: torch.dtype, queries: int, keys: int, heads: int, head: int
) -> tuple[torch.Tensor, ...]:
    return tuple(draw(device, dtype, 1, n, heads, head) for n in (queries, keys, keys))


def _dense(model: str, queries: int, keys: int | None, heads: int, head: int) -> Case:
    wanted = queries if keys is None else keys
    return Case(
        spec=dense.SPEC,
        model=model,
        shape=(queries, wanted, heads, head),
        cost=dense.cost(1, queries, wanted, heads, head, ELEMENT),
        make=lambda device, dtype: _qkv(device, dtype, queries, wanted, heads, head),
        ours=lambda q, k, v: dense.attention(q, k, v)[0],
        eager=_sdpa,
        roof="flops",
        variant="dense" if keys is None else "words",
        rivals=_backends(),
        check=_check,
        loose=dict.fromkeys(("eager", *_backends()), LOOSE),
        compiles=False,
    )


def _varlen(model: str, lengths: list[int], heads: int) -> Case:
    ends = [0, *itertools.accumulate(lengths)]
    spans = [slice(a, b) for a, b in itertools.pairwise(ends)]

    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        packed = (draw(device, dtype, ends[-1], heads, HEAD) for _ in range(3))
        return *packed, torch.tensor(ends, dtype=torch.int32, device=device)

    def eager(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _starts: Any) -> torch.Tensor:
        return torch.cat([_sdpa(q[None, s], k[None, s], v[None, s])[0] for s in spans])

    def check(given: tuple[Any, ...], results: Results) -> float:
        parts = [(tuple(t[None, s] for t in given[:3]), (results[0][None, s],)) for s in spans]
        return max(_check(*part) for part in parts)

    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, starts: torch.Tensor) -> Any:
        return dense.varlen_attention(q, k, v, starts, starts, max(lengths))[0]

    rivals: dict[str, Run] = {}
    if torch.cuda.is_available() and importlib.util.find_spec("torch.nn.attention.varlen"):
        varlen = importlib.import_module("torch.nn.attention.varlen").varlen_attn
        most = max(lengths)
        rivals["varlen_attn"] = lambda q, k, v, starts: varlen(q, k, v, starts, starts, most, most)
    costs = [dense.cost(1, n, n, heads, HEAD, ELEMENT) for n in lengths]
    total = type(costs[0])(sum(c.bytes for c in costs), sum(c.flops for c in costs))
    return Case(
        spec=dense.SPEC,
        model=model,
        shape=(ends[-1], heads, HEAD),
        cost=total,
        make=make,
        ours=ours,
        eager=eager,
        roof="flops",
        variant=f"varlen{len(lengths)}",
        rivals=rivals,
        check=check,
        loose=dict.fromkeys(("eager", *rivals), LOOSE),
        compiles=False,
    )


def _flex(*given: Any) -> torch.Tensor:
    """Attend by flex_attention, to what the block mask at the end of `given` lists."""
    q, k, v = (t.transpose(1, 2) for t in given[:3])
    out: torch.Tensor = _compiled_flex()(q, k, v, block_mask=given[-1])
    return out.transpose(1, 2)


@functools.cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _flexes() -> dict[str, Run]:
    return {"flex": _flex} if torch.cuda.is_available() else {}


def _flex_mask(block_of_token: torch.Tensor, near: torch.Tensor, tokens: int) -> Any:
    """A block mask: a token sees another where `near` [blocks, blocks] says so of their blocks."""
    if not _flexes():
        return None
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(_b: Any, _h: Any, q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
        return near[block_of_token[q], block_of_token[kv]]

    return create_block_mask(sees, None, None, tokens, tokens, device=near.device)


def _near(counts: torch.Tensor, indices: torch.Tensor, blocks: int) -> torch.Tensor:
    """Return [queries' blocks, keys' blocks], true where one lists the other; of one head."""
    listed = torch.arange(indices.shape[-1], device=indices.device) < counts[0, 0, :, None]
    near = torch.zeros(indices.shape[2], blocks + 1, dtype=torch.bool, device=indices.device)
    near.scatter_(1, torch.where(listed, indices[0, 0], blocks).long(), True)
    return near[:, :-1]


def _sparse_rivals() -> dict[str, Run]:
    """By flex_attention the same work; by flash all of it, to say what being sparse gains."""
    return _flexes() | {n: run for n, run in _backends().items() if n == "flash"}


def _block_sparse(model: str, tokens: int, heads: int, block: int) -> Case:
    blocks = -(-tokens // block)
    chosen = max(1, round(SPARSE * blocks))

    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        order = torch.rand(1, 1, blocks, blocks, device=device).argsort(-1)
        indices = order[..., :chosen].sort(-1).values.int().contiguous()
        counts = torch.full((1, 1, blocks), chosen, dtype=torch.int32, device=device)
        starts = block_sparse.starts_of(tokens, block, device)
        of_token = torch.arange(tokens, device=device) // block
        mask = _flex_mask(of_token, _near(counts, indices, blocks), tokens)
        return *_qkv(device, dtype, tokens, tokens, heads, HEAD), counts, indices, starts, mask

    def ours(*given: Any) -> torch.Tensor:
        found = block_sparse.block_sparse_attention(*given[:6], given[5], block)
        return found[0]

    def check(given: tuple[Any, ...], results: Results) -> float:
        at = some(tokens, given[0].device, ROWS)
        seen = _near(given[3], given[4], blocks)[at // block]
        mask = seen.repeat_interleave(block, 1)[None, :, :tokens]
        return relative(results[0][:, at], truth(given, at, mask))

    return Case(
        spec=block_sparse.SPEC,
        model=model,
        shape=(tokens, heads, HEAD),
        cost=block_sparse.cost(1, tokens, heads, HEAD, ELEMENT, block, chosen),
        make=make,
        ours=ours,
        eager=_sdpa,
        roof="flops",
        variant=f"block{block}",
        rivals=_sparse_rivals(),
        check=check,
        loose={"eager": OTHER_WORK, "flash": OTHER_WORK, "flex": LOOSE},
        compiles=False,
    )


def _sliding(model: str, grid: Grid, heads: int, tile: Grid) -> Case:
    tokens, window = grid[0] * grid[1] * grid[2], (3, 3, 3)

    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        block = sliding_tile.block_of(tile)
        starts = sliding_tile.tiling(grid, tile, block, device).starts
        of_token = torch.arange(len(starts) - 1, device=device).repeat_interleave(starts.diff())
        lists = sliding_tile.window_lists(grid, tile, window, device)
        mask = _flex_mask(of_token, _near(*lists, len(starts) - 1), tokens)
        return *_qkv(device, dtype, tokens, tokens, heads, HEAD), mask

    def ours(*given: Any) -> torch.Tensor:
        found = sliding_tile.sliding_tile_attention(*given[:3], list(grid), list(tile), [*window])
        return found[0]

    def check(given: tuple[Any, ...], results: Results) -> float:
        at = some(tokens, given[0].device, ROWS)
        mask = sliding_tile.window_mask(grid, tile, window, given[0].device)[at]
        return relative(results[0][:, at], truth(given, at, mask[None]))

    return Case(
        spec=sliding_tile.SPEC,
        model=model,
        shape=(tokens, heads, HEAD),
        cost=sliding_tile.cost(1, grid, tile, window, heads, HEAD, ELEMENT),
        make=make,
        ours=ours,
        eager=_sdpa,
        roof="flops",
        variant="window3",
        rivals=_sparse_rivals(),
        check=check,
        loose={"eager": OTHER_WORK, "flash": OTHER_WORK, "flex": LOOSE},
        compiles=False,
    )


def _video_sparse(model: str, grid: Grid, heads: int) -> Case:
    tokens = grid[0] * grid[1] * grid[2]
    blocks = len(sliding_tile.tiling(grid, TILE, 64, torch.device("cpu")).starts) - 1
    chosen = max(1, round(SPARSE * blocks))

    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        starts = sliding_tile.tiling(grid, TILE, 64, device).starts
        return *_qkv(device, dtype, tokens, tokens, heads, HEAD), starts

    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, starts: torch.Tensor) -> Any:
        return video_sparse.video_sparse_attention(q, k, v, None, starts, 64, chosen)

    def check(given: tuple[Any, ...], results: Results) -> float:
        # Which blocks are best is for the tests of `select`: here what was chosen is attended to.
        at, starts = some(tokens, given[0].device, ROWS), given[3]
        of_token = torch.arange(blocks, device=starts.device).repeat_interleave(starts.diff())
        near = torch.zeros(heads, blocks, blocks, dtype=torch.bool, device=starts.device)
        near.scatter_(2, results[1][0].long(), True)
        mask = near[:, of_token[at]][..., of_token]
        return relative(results[0][:, at], truth(given, at, mask))

    return Case(
        spec=video_sparse.SPEC,
        model=model,
        shape=(tokens, heads, HEAD),
        cost=video_sparse.cost(1, tokens, heads, HEAD, ELEMENT, 64, chosen),
        make=make,
        ours=ours,
        eager=_sdpa,
        roof="flops",
        variant="top10%",
        rivals={n: run for n, run in _backends().items() if n == "flash"},
        check=check,
        loose={"eager": OTHER_WORK, "flash": OTHER_WORK},
        compiles=False,
    )


def _int8(model: str, tokens: int, heads: int) -> Case:
    rivals = {n: run for n, run in _backends().items() if n in ("flash", "cudnn")}
    if torch.cuda.is_available() and importlib.util.find_spec("sageattention"):
        sage = importlib.import_module("sageattention").sageattn
        rivals["sage"] = lambda q, k, v: sage(q, k, v, tensor_layout="NHD")
    return Case(
        spec=int8.SPEC,
        model=model,
        shape=(tokens, heads, HEAD),
        cost=int8.cost(1, tokens, tokens, heads, HEAD, ELEMENT),
        make=lambda device, dtype: _qkv(device, dtype, tokens, tokens, heads, HEAD),
        ours=lambda q, k, v: int8.int8_attention(q, k, v)[0],
        eager=_sdpa,
        roof="flops",
        rivals=rivals,
        check=_check,
        loose=dict.fromkeys(("eager", "flash", "cudnn"), LOOSE),
        compiles=False,
    )
