"""Flash attention against float64: shapes that fit no tile, strides, packed sequences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.ops.attention import common
from kernels.ops.attention.dense import (
    SPEC,
    attention,
    attention_ref,
    cost,
    varlen_attention,
    varlen_attention_ref,
)
from tests.kernels.interpreter.truths import QUICK, attended

dtypes = st.sampled_from(common.DTYPES)
heads = st.sampled_from(common.HEADS)


def draw(*size, dtype=torch.bfloat16, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(got, want, dtype):
    out, lse = got
    assert out.dtype == dtype
    assert (out.double() - want[0]).abs().max() <= SPEC.bound[dtype] * want[0].abs().max()
    torch.testing.assert_close(lse.double(), want[1], atol=2e-3, rtol=0)


@settings(QUICK, max_examples=12)
@given(
    dtype=dtypes,
    head=heads,
    shape=st.tuples(st.integers(1, 2), st.integers(1, 150), st.integers(1, 150)),
    packed=st.booleans(),
    scale=st.sampled_from([None, 0.3]),
)
def test_any_shape_agrees_with_float64(dtype, head, shape, packed, scale):
    batch, queries, keys = shape
    q = draw(batch, queries, 2, head, dtype=dtype)
    if packed:  # of one projection
        k, v = draw(batch, keys, 2, 2, head, dtype=dtype, seed=1).unbind(2)
    else:  # of heads before rows
        k, v = draw(2, batch, 2, keys, head, dtype=dtype, seed=1).transpose(2, 3).unbind(0)
    assert_close(attention(q, k, v, scale), attended(q, k, v, scale), dtype)
    assert_close(attention_ref(q, k, v, scale), attended(q, k, v, scale), dtype)


def test_channels_that_are_apart_are_read_rightly():
    q, k, v = draw(3, 1, 5, 1, 128)[..., ::2].unbind(0)
    assert q.stride(-1) == 2
    assert_close(attention(q, k, v), attended(q, k, v), torch.bfloat16)


def test_the_kernel_ran_and_not_the_reference(monkeypatch):
    monkeypatch.setattr("kernels.ops.attention.dense.attention_ref", None)
    q, k, v = draw(3, 1, 5, 1, 64).unbind(0)
    assert_close(attention(q, k, v), attended(q, k, v), torch.bfloat16)


@settings(QUICK, max_examples=6)
@given(
    dtype=dtypes,
    lengths=st.lists(st.tuples(st.integers(0, 140), st.integers(0, 123)), min_size=1, max_size=3),
)
def test_packed_sequences_see_only_themselves(dtype, lengths):
    rows, keys = (torch.tensor([0, *column]).cumsum(0) for column in zip(*lengths, strict=True))
    q = draw(rows[-1], 1, 64, dtype=dtype)
    k, v = draw(2, keys[-1], 1, 64, dtype=dtype, seed=1).unbind(0)
    mask = torch.zeros(len(q), len(k), dtype=torch.bool)
    for i in range(len(lengths)):
        mask[rows[i] : rows[i + 1], keys[i] : keys[i + 1]] = True
    arguments = (q, k, v, rows.int(), keys.int(), max(r for r, _ in lengths))
    if not (len(q) and len(k)):
        assert not varlen_attention(*arguments)[0].any()
        return
    want = attended(q[None], k[None], v[None], mask=mask)
    for operation in (varlen_attention, varlen_attention_ref):
        out, lse = operation(*arguments)
        assert_close((out[None], lse[None]), want, dtype)


def test_large_scores_do_not_overflow():
    q, k, v = 60 * draw(1, 9, 1, 64), 60 * draw(1, 123, 1, 64), draw(1, 123, 1, 64)
    out, lse = attention(q, k, v)
    want = attended(q, k, v)
    assert (out.double() - want[0]).abs().max() <= SPEC.bound[q.dtype] * want[0].abs().max()
    torch.testing.assert_close(lse.double(), want[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize(("head", "dtype"), [(40, torch.bfloat16), (64, torch.float32)])
def test_other_heads_and_dtypes_take_the_reference(head, dtype):
    q, k, v = draw(3, 1, 7, 2, head, dtype=dtype).unbind(0)
    out, lse = attention(q, k, v)
    assert torch.equal(out, attention_ref(q, k, v)[0])
    assert torch.equal(lse, attention_ref(q, k, v)[1])


def test_a_scale_that_is_not_positive_is_refused():
    q, k, v = draw(3, 1, 7, 2, 64).unbind(0)
    with pytest.raises(ValueError, match="positive, not -1"):
        attention(q, k, v, -1.0)


def test_cost_is_that_of_the_products():
    tokens, count, head = common.MODELS["wan-1.3b"]
    counted = cost(1, tokens, tokens, count, head, 2)
    assert counted.flops == 4 * tokens**2 * count * head
    assert counted.bytes == 4 * 2 * tokens * count * head + 4 * tokens * count


def test_torch_finds_the_operators_well_made():
    q, k, v = draw(3, 2, 5, 1, 64).unbind(0)
    torch.library.opcheck(attention, (q, k, v, None))
    starts = torch.tensor([0, 2, 5], dtype=torch.int32)
    torch.library.opcheck(varlen_attention, (q[0], k[0], v[0], starts, starts, 3, None))
