"""Video sparse attention: chosen blocks are the reference's top-k, results those of float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.ops.attention import common
from kernels.ops.attention.block_sparse import starts_of
from kernels.ops.attention.dense import attention
from kernels.ops.attention.video_sparse import (
    SPEC,
    select,
    select_ref,
    video_sparse_attention,
    video_sparse_attention_ref,
)
from tests.kernels.interpreter.truths import LAYOUTS, QUICK, attended, laid


def draw(*size, dtype=torch.bfloat16, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def truth(q, k, v, gate, starts, chosen, scale):
    """The definition in float64, block by block."""
    spans = [slice(a, b) for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
    means = [torch.stack([x.double()[:, s].mean(1) for s in spans], 2) for x in (q, k, v)]
    scores = means[0] @ means[1].mT * scale
    mask = torch.zeros(*q.shape[:1], q.shape[2], q.shape[1], q.shape[1], dtype=torch.bool)
    indices = torch.empty(*scores.shape[:-1], chosen, dtype=torch.int32)
    for b, h, i in torch.cartesian_prod(*map(torch.arange, scores.shape[:-1])).view(-1, 3).tolist():
        ranked = sorted(range(len(spans)), key=lambda j: (-scores[b, h, i, j].item(), j))
        indices[b, h, i] = torch.tensor(sorted(ranked[:chosen]))
        for j in ranked[:chosen]:
            mask[b, h, spans[i], spans[j]] = True
    out, _ = attended(q, k, v, scale, mask)
    coarse = (scores.softmax(-1) @ means[2]).transpose(1, 2).repeat_interleave(starts.diff(), 1)
    return out if gate is None else out + gate.double() * coarse, indices


@settings(QUICK, max_examples=10)
@given(
    dtype=st.sampled_from(common.DTYPES),
    head=st.sampled_from(common.HEADS),
    lengths=st.lists(st.integers(1, 64), min_size=2, max_size=5),
    batch=st.integers(1, 2),
    gated=st.booleans(),
    scale=st.sampled_from([None, 0.3]),
    layouts=st.tuples(LAYOUTS, LAYOUTS, LAYOUTS, LAYOUTS),
    data=st.data(),
)
def test_any_blocks_agree_with_float64(dtype, head, lengths, batch, gated, scale, layouts, data):
    chosen = data.draw(st.integers(1, len(lengths)))
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    rows = draw(4, batch, sum(lengths), 2, head, dtype=dtype).unbind(0)
    q, k, v, gate = (laid(x, layout) for x, layout in zip(rows, layouts, strict=True))
    gate = gate if gated else None
    factor = head**-0.5 if scale is None else scale
    want, indices = truth(q, k, v, gate, starts, chosen, factor)
    for operation in (video_sparse_attention, video_sparse_attention_ref):
        got, picked = operation(q, k, v, gate, starts, 64, chosen, scale)
        assert torch.equal(picked, indices)
        assert (got.double() - want).abs().max() <= SPEC.bound[dtype] * want.abs().max()


@settings(QUICK, max_examples=12)
@given(n=st.integers(1, 64), values=st.integers(1, 6), data=st.data())
def test_equal_scores_are_taken_in_order(n, values, data):
    chosen = data.draw(st.integers(1, n))
    padded = max(16, 1 << (n - 1).bit_length())
    scores = draw(3, padded, dtype=torch.float32).mul(values).round() / values
    scores[:, n:] = 99.0  # what pads is never chosen
    want = [
        sorted(sorted(range(n), key=lambda j: (-row[j], j))[:chosen]) for row in scores.tolist()
    ]
    assert select(scores, n, chosen).tolist() == want
    assert select_ref(scores[:, :n], chosen).tolist() == want


def test_scores_that_are_not_numbers_choose_blocks_that_exist():
    scores = torch.full((1, 16), float("nan"))
    assert select(scores, 9, 4).tolist() == [[0, 1, 2, 3]]


@settings(QUICK, max_examples=6)
@given(
    dtype=st.sampled_from(common.DTYPES),
    lengths=st.lists(st.integers(1, 64), min_size=2, max_size=4),
    twins=st.integers(1, 3),
    data=st.data(),
)
def test_blocks_that_are_alike_are_chosen_by_index(dtype, lengths, twins, data):
    """Blocks of keys that are the same score the same to the last bit: the first of them win."""
    chosen = data.draw(st.integers(1, len(lengths)))
    kinds = [data.draw(st.integers(0, twins - 1)) for _ in lengths]
    starts = torch.arange(0, 16 * len(lengths) + 16, 16, dtype=torch.int32)
    # Halves: sums and products of few of them are exact, in whatever order they are added up.
    several = draw(twins, 16, 2, 64, seed=3).mul(2).round().div(2).to(dtype)
    q, v = draw(2, 1, 16 * len(lengths), 2, 64).mul(2).round().div(2).to(dtype).unbind(0)
    k = torch.cat([several[kind] for kind in kinds])[None]
    pooled = [x.double().unflatten(1, (-1, 16)).mean(2).transpose(1, 2) for x in (q, k)]
    scores = (pooled[0] @ pooled[1].mT)[0]
    # What is the same has the score of its first, so that no rounding of the truth parts them.
    first = [kinds.index(kind) for kind in kinds]
    want = [
        [
            sorted(sorted(range(len(kinds)), key=lambda j: (-row[first[j]], j))[:chosen])
            for row in head
        ]
        for head in scores.tolist()
    ]
    for operation in (video_sparse_attention, video_sparse_attention_ref):
        _, picked = operation(q, k, v, None, starts, 64, chosen)
        assert picked[0].tolist() == want


@settings(QUICK, max_examples=6)
@given(
    dtype=st.sampled_from(common.DTYPES),
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    layouts=st.tuples(LAYOUTS, LAYOUTS, LAYOUTS),
)
def test_choosing_every_block_equals_dense(dtype, lengths, layouts):
    rows = draw(3, 1, sum(lengths), 1, 64, dtype=dtype).unbind(0)
    q, k, v = (laid(x, layout) for x, layout in zip(rows, layouts, strict=True))
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    out, picked = video_sparse_attention(q, k, v, None, starts, 64, len(lengths))
    dense, _ = attention(q, k, v)
    assert (picked == torch.arange(len(lengths))).all()
    assert (out.double() - dense).abs().max() <= 2 * SPEC.bound[dtype] * dense.abs().max()


def test_more_blocks_than_there_are_is_refused():
    q, k, v = draw(3, 1, 123, 1, 64).unbind(0)
    with pytest.raises(ValueError, match="1 up to the 2 blocks that there are, not 3"):
        video_sparse_attention(q, k, v, None, starts_of(123, 64), 64, 3)


def test_cost_falls_with_density():
    tokens, heads, head = common.MODELS["wan-1.3b"]
    dense = 4 * tokens**2 * heads * head
    counted = SPEC.cost(1, tokens, heads, head, 2, 64, 51)
    assert 0.09 * dense < counted.flops < 0.11 * dense


def test_torch_finds_the_operator_well_made():
    q, k, v, gate = draw(4, 1, 123, 1, 64).unbind(0)
    arguments = (q, k, v, gate, starts_of(123, 64), 64, 1, None)
    torch.library.opcheck(video_sparse_attention, arguments)
