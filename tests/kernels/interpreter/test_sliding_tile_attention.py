"""Sliding tile attention equals attention under a mask of 3-D windows, tiles at edges included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.ops.attention import common, sliding_tile
from kernels.ops.attention.dense import attention
from kernels.ops.attention.sliding_tile import (
    SPEC,
    from_tiles,
    sliding_tile_attention,
    sliding_tile_attention_ref,
    to_tiles,
    window_lists,
)
from tests.kernels.interpreter.truths import LAYOUTS, QUICK, attended, laid

CPU = torch.device("cpu")


def draw(*size, dtype=torch.bfloat16, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def mask_of(grid, tile, window):
    """Which token sees which, in row-major order, from the definition alone, token by token."""
    size = grid[0] * grid[1] * grid[2]
    mask = torch.ones(size, size, dtype=torch.bool)
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(size, 3).tolist()
    for i, a in enumerate(places):
        for axis in range(3):
            tiles = -(-grid[axis] // tile[axis])
            wide = min(window[axis], tiles)
            mine = a[axis] // tile[axis]
            low = min(max(mine - wide // 2, 0), tiles - wide)
            seen = [low <= b[axis] // tile[axis] < low + wide for b in places]
            mask[i] &= torch.tensor(seen)
    return mask


triples = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7))
odd = st.sampled_from([1, 3, 5])


@settings(QUICK, max_examples=10)
@given(
    grid=triples,
    tile=st.sampled_from([(2, 2, 2), (1, 3, 4), (4, 4, 4), (3, 6, 7)]),
    window=st.tuples(odd, odd, odd),
    dtype=st.sampled_from(common.DTYPES),
    heads=st.integers(1, 2),
    layouts=st.tuples(LAYOUTS, LAYOUTS, LAYOUTS),
)
def test_any_window_equals_a_masked_dense_reference(grid, tile, window, dtype, heads, layouts):
    q, k, v = draw(3, 1, grid[0] * grid[1] * grid[2], heads, 64, dtype=dtype).unbind(0)
    want, want_lse = attended(q, k, v, mask=mask_of(grid, tile, window))
    tiled = [
        laid(to_tiles(x, grid, tile), layout) for x, layout in zip((q, k, v), layouts, strict=True)
    ]
    for operation in (sliding_tile_attention, sliding_tile_attention_ref):
        out, lse = operation(*tiled, list(grid), list(tile), list(window))
        out = from_tiles(out, grid, tile)
        assert (out.double() - want).abs().max() <= SPEC.bound[dtype] * want.abs().max()
        lse = from_tiles(lse.transpose(1, 2), grid, tile).transpose(1, 2)
        torch.testing.assert_close(lse.double(), want_lse, atol=2e-3, rtol=0)


@given(grid=triples, tile=triples)
@settings(QUICK, max_examples=30)
def test_tile_order_is_a_permutation_that_its_inverse_undoes(grid, tile):
    tokens = torch.arange(grid[0] * grid[1] * grid[2])[None]
    there = to_tiles(tokens, grid, tile)
    assert torch.equal(there.sort().values, tokens)
    assert torch.equal(from_tiles(there, grid, tile), tokens)
    assert torch.equal(to_tiles(from_tiles(tokens, grid, tile), grid, tile), tokens)


def test_tokens_of_a_tile_lie_together():
    ordered = to_tiles(torch.arange(4 * 4 * 6)[None], (4, 4, 6), (2, 2, 3))[0]
    first = [0, 1, 2, 6, 7, 8, 24, 25, 26, 30, 31, 32]
    assert ordered[:12].tolist() == first
    assert ordered[12:24].tolist() == [n + 3 for n in first]


def test_a_window_over_the_whole_grid_equals_dense():
    grid, tile = (3, 5, 9), (2, 4, 8)
    q, k, v = draw(3, 1, 135, 1, 64).unbind(0)
    out, lse = sliding_tile_attention(q, k, v, list(grid), list(tile), [3, 3, 3])
    dense, dense_lse = attention(q, k, v)
    assert (out.double() - dense).abs().max() <= SPEC.bound[q.dtype] * dense.abs().max()
    torch.testing.assert_close(lse, dense_lse, atol=1e-5, rtol=0)


def test_every_window_of_wan_has_its_full_size():
    grid, tile, window = (21, 30, 52), (3, 6, 7), (3, 3, 3)  # 480 x 832, 81 frames
    counts, indices = window_lists(grid, tile, window, CPU)
    assert sliding_tile.block_of(tile) == 128
    assert counts.unique().tolist() == [27]
    assert indices.shape[-1] == 27
    counted = SPEC.cost(1, grid, tile, window, 12, 128, 2)
    tokens = 21 * 30 * 52
    assert counted.flops < 0.12 * 4 * tokens**2 * 12 * 128


def test_what_does_not_fit_is_refused():
    q, k, v = draw(3, 1, 8, 1, 64).unbind(0)
    with pytest.raises(ValueError, match="not one of 8 queries"):
        sliding_tile_attention(q, k, v, [2, 2, 3], [2, 2, 2], [1, 1, 1])
    with pytest.raises(ValueError, match="odd numbers of tiles"):
        sliding_tile_attention(q, k, v, [2, 2, 2], [2, 2, 2], [2, 1, 1])
    with pytest.raises(ValueError, match="no empty axis"):
        sliding_tile_attention(q, k, v, [2, 2, 2], [0, 2, 2], [1, 1, 1])


def test_torch_finds_the_operator_well_made():
    q, k, v = draw(3, 1, 24, 1, 64).unbind(0)
    arguments = (q, k, v, [2, 3, 4], [2, 2, 2], [1, 1, 1], None)
    torch.library.opcheck(sliding_tile_attention, arguments)
