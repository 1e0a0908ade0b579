"""Attention in int8 against float64: within its bound, and exact where int8 loses nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.ops.attention import common, int8
from kernels.ops.attention.int8 import SPEC, int8_attention, int8_attention_ref, quantise_ref
from tests.kernels.interpreter.truths import QUICK, attended


def draw(*size, dtype=torch.bfloat16, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(QUICK, max_examples=6)
@given(
    dtype=st.sampled_from(common.DTYPES),
    head=st.sampled_from(common.HEADS),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 150), st.integers(1, 150)),
    packed=st.booleans(),
    offset=st.sampled_from([0.0, 8.0]),
)
def test_any_shape_is_within_the_bound_of_float64(dtype, head, shape, packed, offset):
    batch, queries, keys = shape
    q = draw(batch, queries, 2, head, dtype=dtype)
    if packed:
        k, v = draw(batch, keys, 2, 2, head, dtype=dtype, seed=1).unbind(2)
    else:
        k, v = draw(2, batch, 2, keys, head, dtype=dtype, seed=1).transpose(2, 3).unbind(0)
    k = (k.float() + offset * draw(head, seed=2).float()).to(dtype)  # as channels of keys have
    want, want_lse = attended(q, k, v)
    for operation in (int8_attention, int8_attention_ref):
        out, lse = operation(q, k, v)
        assert out.dtype == dtype
        assert (out.double() - want).abs().max() <= SPEC.bound[dtype] * want.abs().max()
        torch.testing.assert_close(lse.double(), want_lse, atol=0.1, rtol=0)


def test_the_kernel_computes_what_its_reference_does():
    q, k, v = draw(3, 1, 123, 2, 64).unbind(0)
    out, lse = int8_attention(q, k, v)
    want, want_lse = int8_attention_ref(q, k, v)
    close = 2 * common.BOUND[q.dtype] * want.float().abs().max()
    assert (out.float() - want.float()).abs().max() <= close
    torch.testing.assert_close(lse, want_lse, atol=0.02, rtol=0)


def test_the_kernel_ran_and_not_the_reference(monkeypatch):
    monkeypatch.setattr("kernels.ops.attention.int8.int8_attention_ref", None)
    out, _ = int8_attention(*draw(3, 1, 5, 1, 64).unbind(0))
    assert out.isfinite().all()


def test_the_mean_of_keys_costs_no_precision():
    q, k, v = draw(3, 1, 123, 1, 64, dtype=torch.float16).unbind(0)
    k = (k * 4).round() / 4
    moved = k + 16.0  # exact in float16
    out, lse = int8_attention(q, k, v)
    again, more = int8_attention(q, moved, v)
    close = 2 * SPEC.bound[q.dtype] * out.abs().max()
    assert (out - again).abs().max() <= close
    shift = 16.0 * q.float().sum(-1).transpose(1, 2) / 8
    torch.testing.assert_close(more, lse + shift, atol=0.05, rtol=0)


@given(st.integers(1, 130), st.floats(1e-3, 1e3))
@settings(QUICK, max_examples=20)
def test_a_step_is_the_127th_part_of_the_largest(rows, size):
    x = draw(1, 2, rows, 64, dtype=torch.float32) * size
    whole, scales = quantise_ref(x, None, int8.keys_of(64))
    back = whole * scales.repeat_interleave(int8.keys_of(64), 2)[:, :, :rows, None]
    steps = scales.repeat_interleave(int8.keys_of(64), 2)[:, :, :rows, None]
    assert ((back - x).abs() <= steps * 0.5001).all()
    assert whole.abs().max() == 127


def test_no_keys_are_refused():
    q = draw(1, 3, 1, 64)
    with pytest.raises(ValueError, match="needs a query and a key"):
        int8_attention(q, q[:, :0], q[:, :0])


def test_cost_counts_keys_at_half_their_bytes():
    tokens, heads, head = common.MODELS["flux"]
    counted = SPEC.cost(1, tokens, tokens, heads, head, 2)
    assert counted.flops == 4 * tokens**2 * heads * head
    assert counted.bytes == 14 * tokens * heads * head + 8 * tokens * heads


def test_torch_finds_the_operator_well_made():
    q, k, v = draw(3, 2, 5, 1, 64).unbind(0)
    torch.library.opcheck(int8_attention, (q, k, v, None))
