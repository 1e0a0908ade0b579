"""Block-sparse attention against float64 with the mask written out: any lists, ragged blocks."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.ops.attention import common
from kernels.ops.attention.block_sparse import (
    SPEC,
    block_sparse_attention,
    block_sparse_attention_ref,
    starts_of,
)
from kernels.ops.attention.dense import attention
from tests.kernels.interpreter.truths import LAYOUTS, QUICK, attended, laid


def draw(*size, dtype=torch.bfloat16, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def ragged(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int()


def lists(mask):
    """Counts and indices of a mask [B, H, blocks of q, blocks of k], what is unused far outside."""
    counts = mask.sum(-1).int()
    indices = torch.full(mask.shape, 2**30, dtype=torch.int32)
    for at in torch.cartesian_prod(*map(torch.arange, mask.shape[:-1])).tolist():
        chosen = mask[tuple(at)].nonzero().flatten()
        indices[tuple(at)][: len(chosen)] = chosen
    return counts, indices


def over_tokens(mask, q_starts, k_starts):
    return mask.repeat_interleave(q_starts.diff(), -2).repeat_interleave(k_starts.diff(), -1)


def assert_close(got, want, dtype):
    out, lse = got
    assert (out.double() - want[0]).abs().max() <= SPEC.bound[dtype] * want[0].abs().max()
    torch.testing.assert_close(lse.double(), want[1], atol=2e-3, rtol=0)


@settings(QUICK, max_examples=10)
@given(
    dtype=st.sampled_from(common.DTYPES),
    head=st.sampled_from(common.HEADS),
    block=st.sampled_from([64, 128]),
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    k_lengths=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    lists_of=st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]),
    density=st.floats(0.1, 1),
    seed=st.integers(0, 99),
)
def test_any_lists_of_ragged_blocks(
    dtype, head, block, lengths, k_lengths, lists_of, density, seed
):
    q_starts, k_starts = ragged(lengths), ragged(n * block // 64 for n in k_lengths)
    q = draw(2, 2, q_starts[-1], head, dtype=dtype).transpose(1, 2)
    k, v = draw(2, k_starts[-1], 2, 2, head, dtype=dtype, seed=1).unbind(2)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(*lists_of, len(lengths), len(k_lengths), generator=generator) < density
    want = attended(q, k, v, mask=over_tokens(mask, q_starts, k_starts))
    for operation in (block_sparse_attention, block_sparse_attention_ref):
        got = operation(q, k, v, *lists(mask), q_starts, k_starts, block)
        assert_close(got, want, dtype)


@settings(QUICK, max_examples=8)
@given(
    dtype=st.sampled_from(common.DTYPES),
    block=st.sampled_from([64, 128]),
    head=st.sampled_from(common.HEADS),
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    layouts=st.tuples(LAYOUTS, LAYOUTS, LAYOUTS),
    shuffled=st.randoms(use_true_random=False),
    scale=st.sampled_from([None, 0.25]),
)
def test_density_1_equals_dense(dtype, block, head, lengths, layouts, shuffled, scale):
    starts = ragged(lengths)
    rows = draw(3, 1, starts[-1], 2, head, dtype=dtype).unbind(0)
    q, k, v = (laid(x, layout) for x, layout in zip(rows, layouts, strict=True))
    counts, indices = lists(torch.ones(1, 2, len(lengths), len(lengths), dtype=torch.bool))
    order = list(range(len(lengths)))
    shuffled.shuffle(order)  # in whatever order blocks are listed
    indices = indices[..., order]
    dense, dense_lse = attention(q, k, v, scale)
    for operation in (block_sparse_attention, block_sparse_attention_ref):
        out, lse = operation(q, k, v, counts, indices, starts, starts, block, scale)
        largest = dense.abs().max()
        assert (out.double() - dense).abs().max() <= 2 * SPEC.bound[dtype] * largest
        torch.testing.assert_close(lse, dense_lse, atol=1e-4, rtol=0)


def test_a_block_that_lists_nothing_gives_zeros():
    q, k, v = draw(3, 1, 123, 1, 64).unbind(0)
    starts = starts_of(123, 64)
    mask = torch.tensor([[[[True, False], [False, False]]]])
    out, lse = block_sparse_attention(q, k, v, *lists(mask), starts, starts, 64)
    assert out[:, :64].any()
    assert not out[:, 64:].any()
    assert (lse[..., 64:] == float("-inf")).all()


def test_blocks_not_listed_are_never_read():
    q, k, v = draw(3, 1, 192, 1, 64).unbind(0)
    starts = starts_of(192, 64)
    mask = torch.tensor([True, False, True]).expand(1, 1, 3, 3)
    want = block_sparse_attention(q, k, v, *lists(mask), starts, starts, 64)
    k[:, 64:128], v[:, 64:128] = float("nan"), float("nan")
    for operation in (block_sparse_attention, block_sparse_attention_ref):
        got = operation(q, k, v, *lists(mask), starts, starts, 64)
        torch.testing.assert_close(got[0], want[0], atol=2e-3, rtol=1e-2)


def test_torch_finds_the_operator_well_made():
    q, k, v = draw(3, 1, 123, 1, 64).unbind(0)
    starts = starts_of(123, 64)
    everything = lists(torch.ones(1, 1, 2, 2, dtype=torch.bool))
    torch.library.opcheck(block_sparse_attention, (q, k, v, *everything, starts, starts, 64, None))


@settings(QUICK, max_examples=6)
@given(
    counts_of=st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]),
    indices_of=st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]),
)
def test_counts_and_indices_are_shared_each_for_itself(counts_of, indices_of):
    q, k, v = (draw(2, 128, 2, 64, dtype=torch.float16, seed=n) for n in range(3))
    starts = starts_of(128, 64)
    counts = torch.ones(*counts_of, 2, dtype=torch.int32)
    numbers = torch.Generator().manual_seed(3)
    indices = torch.randint(0, 2, (*indices_of, 2, 1), generator=numbers, dtype=torch.int32)
    operands = (q, k, v, counts, indices, starts, starts, 64)
    got, want = block_sparse_attention(*operands)[0], block_sparse_attention_ref(*operands)[0]
    assert (got.float() - want.float()).abs().max() <= 2e-3 * want.float().abs().max()
