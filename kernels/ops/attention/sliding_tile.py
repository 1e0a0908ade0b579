"""Sliding tile attention: a video's tokens in tiles, each attending to a window of tiles."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch

from kernels.ops.attention import block_sparse, common
from kernels.ops.attention.block_sparse import block_sparse_attention
from kernels.spec import Cost, OpSpec, Specialisation

NAME = "sliding_tile_attention"
Triple = tuple[int, int, int]


class Tiling(NamedTuple):
    """A grid cut into tiles, and tiles into blocks; all int32 but the permutations, int64.

    order: where the token of each place in tile order lies in row-major order. inverse: the way
    back. starts: first token of every block in tile order, and the end. tiles: the tile of every
    block, along each axis, [blocks, 3]. counts: tiles along each axis.
    """

    order: torch.Tensor
    inverse: torch.Tensor
    starts: torch.Tensor
    tiles: torch.Tensor
    counts: Triple


@functools.lru_cache(maxsize=32)
def tiling(grid: Triple, tile: Triple, block: int, device: torch.device) -> Tiling:
    """Cut `grid` (frames, height, width) into tiles; those at its ends may be smaller.

    Tiles of more than `block` tokens make several blocks. Raises ValueError for an empty axis.
    """
    if min(*grid, *tile, block) < 1:
        raise ValueError(f"a grid {grid}, a tile {tile} and a block {block} have no empty axis")
    tokens = torch.arange(grid[0] * grid[1] * grid[2]).view(grid)
    parts, starts, tiles = [], [0], []
    spans = [range(0, n, step) for n, step in zip(grid, tile, strict=True)]
    for corner in itertools.product(*spans):
        t, y, x = (slice(at, at + step) for at, step in zip(corner, tile, strict=True))
        parts.append(tokens[t, y, x].flatten())
        at = [c // step for c, step in zip(corner, tile, strict=True)]
        first = starts[-1]
        starts += range(first + block, first + len(parts[-1]), block)
        starts.append(first + len(parts[-1]))
        tiles += [at] * -(-len(parts[-1]) // block)
    order = torch.cat(parts)
    return Tiling(
        order.to(device),
        order.argsort().to(device),
        torch.tensor(starts, dtype=torch.int32, device=device),
        torch.tensor(tiles, dtype=torch.int32, device=device),
        (len(spans[0]), len(spans[1]), len(spans[2])),
    )


def to_tiles(x: torch.Tensor, grid: Triple, tile: Triple) -> torch.Tensor:
    """Bring `x` [B, frames * height * width, ...] from row-major into tile order."""
    return x.index_select(1, tiling(grid, tile, block_of(tile), x.device).order)


def from_tiles(x: torch.Tensor, grid: Triple, tile: Triple) -> torch.Tensor:
    """Bring `x` [B, S, ...] from tile order back into row-major order."""
    return x.index_select(1, tiling(grid, tile, block_of(tile), x.device).inverse)


def block_of(tile: Triple) -> int:
    """Choose the block that tiles are read in: 128 tokens where it leaves no more of it empty."""
    tokens = tile[0] * tile[1] * tile[2]
    return 128 if -(-tokens // 128) * 2 == -(-tokens // 64) else 64


@functools.lru_cache(maxsize=32)
def window_lists(
    grid: Triple, tile: Triple, window: Triple, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """List the blocks in the window around each: counts [1, 1, n], indices [1, 1, n, most].

    window: tiles along each axis, odd. A window that would stand over an edge is moved inwards,
    so that all have one size; it is no larger than the grid. Raises ValueError for an even one.
    """
    if any(w < 1 or w % 2 == 0 for w in window):
        raise ValueError(f"a window has odd numbers of tiles, not {window}")
    cut = tiling(grid, tile, block_of(tile), device)
    near = torch.ones(len(cut.tiles), len(cut.tiles), dtype=torch.bool, device=device)
    for axis, (count, size) in enumerate(zip(cut.counts, window, strict=True)):
        at, half = cut.tiles[:, axis], size // 2
        centre = at.clamp(half, max(half, count - 1 - half))
        if size < count:
            near &= (at[None, :] - centre[:, None]).abs() <= half
    counts = near.sum(1)
    # False sorts behind true, and what is equal stays in order: the blocks near come first.
    indices = near.int().argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())]
    return counts[None, None].int(), indices[None, None].int().contiguous()


def sliding_tile_attention_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: list[int],
    tile: list[int],
    window: list[int],
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to every token under a mask of the windows; arguments as `sliding_tile_attention`."""
    g, t, w = _triple(grid, "grid"), _triple(tile, "tile"), _triple(window, "window")
    mask = window_mask(g, t, w, q.device)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out, lse = common.attend(q, k, v, common.scale_of(scale, q.shape[-1]), mask[None, None])
    return out.transpose(1, 2).contiguous(), lse.contiguous()


def window_mask(grid: Triple, tile: Triple, window: Triple, device: torch.device) -> torch.Tensor:
    """Return [S, S] in tile order, true where a token sees another; from positions alone."""
    order = tiling(grid, tile, block_of(tile), device).order
    seen = torch.ones(len(order), len(order), dtype=torch.bool, device=device)
    where = torch.stack(torch.unravel_index(order, grid))
    for place, n, size, wide in zip(where, grid, tile, window, strict=True):
        at, last = place // size, (n - 1) // size
        span = min(wide, last + 1)
        low = (at - span // 2).clamp(0, last + 1 - span)
        seen &= (at >= low[:, None]) & (at < low[:, None] + span)
    return seen


def _triple(values: list[int], name: str) -> Triple:
    if len(values) != 3:
        raise ValueError(f"{name} has frames, height and width, not {len(values)} numbers")
    return values[0], values[1], values[2]


@torch.library.custom_op("mercato_kernels::sliding_tile_attention", mutates_args=())
def sliding_tile_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: list[int],
    tile: list[int],
    window: list[int],
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend from each tile to the window of tiles around it; as `attention`.

    q, k, v: [B, frames * height * width, H, D] in tile order (`to_tiles`). grid: (frames, height,
    width) in tokens; tile: the same of a tile; window: tiles along each axis, odd. Source: Zhang
    et al., Fast Video Generation with Sliding Tile Attention (2025). Raises ValueError where the
    grid has not as many tokens as q and k, and for an even window.
    """
    g, t, w = _triple(grid, "grid"), _triple(tile, "tile"), _triple(window, "window")
    if not q.shape[1] == k.shape[1] == g[0] * g[1] * g[2]:
        raise ValueError(f"a grid {g} is not one of {q.shape[1]} queries and {k.shape[1]} keys")
    block = block_of(t)
    counts, indices = window_lists(g, t, w, q.device)
    starts = tiling(g, t, block, q.device).starts
    return block_sparse_attention(q, k, v, counts, indices, starts, starts, block, scale)


@sliding_tile_attention.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    grid: list[int],
    tile: list[int],
    window: list[int],
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    lse = torch.empty((q.shape[0], q.shape[2], q.shape[1]), device=q.device)
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), lse


def cost(
    batch: int, grid: Triple, tile: Triple, window: Triple, heads: int, head: int, element: int
) -> Cost:
    """Count as block-sparse attention with the blocks of one window."""
    block = block_of(tile)
    counts, _ = window_lists(grid, tile, window, torch.device("cpu"))
    chosen = counts.float().mean().item()
    tokens = grid[0] * grid[1] * grid[2]
    return block_sparse.cost(batch, tokens, heads, head, element, block, chosen)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every kernel of block-sparse attention that videos of the models at hand come to."""
    for block in block_sparse.BLOCKS:
        for dtype in common.DTYPES:
            yield block_sparse.specialisation(NAME, 128, block, dtype, warp_size, gated=False)


SPEC = OpSpec(
    name=NAME,
    trust="bounded",
    replaces="attention with a mask of 3-D windows (FastVideo's STA)",
    reference=sliding_tile_attention_ref,
    cost=cost,
    specialisations=specialisations,
    bound=common.BOUND,
    dtypes=common.DTYPES,
)
