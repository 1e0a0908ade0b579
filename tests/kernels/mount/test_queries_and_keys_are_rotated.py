"""Queries and keys are normed and rotated by one operation, where that is what attention does."""

from typing import Any

import pytest
import torch

from kernels import dispatch, trust
from kernels.mount import rotation
from kernels.mount.mounting import mount
from tests.kernels import models


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(dispatch, "_off", {})
    monkeypatch.setattr(trust, "_verified", set())


@pytest.fixture
def calls(monkeypatch):
    """The shapes of queries that the operation was called with."""
    seen: list[tuple[int, ...]] = []
    operation = rotation.qk_norm_rope

    def spy(q: torch.Tensor, *rest: Any) -> None:
        seen.append(tuple(q.shape))
        operation(q, *rest)

    monkeypatch.setattr(rotation, "qk_norm_rope", spy)
    return seen


@pytest.mark.parametrize(
    ("family", "shapes"),
    [
        # Two blocks of two streams, two of one; then self-attention of two blocks.
        (models.flux, [(2, 9, 32), (2, 5, 32)] * 2 + [(2, 14, 32)] * 2),
        (models.wan, [(2, 18, 24)] * 2),
    ],
)
def test_each_stream_is_one_call(family, shapes, calls):
    model, run = family()
    plain = run()
    mounting = mount(model, "high", references=True)
    run()
    calls.clear()
    assert (run() - plain).abs().max() <= 1e-5 * plain.abs().max()
    assert calls == shapes
    assert dispatch._off == {}
    mounting.undo()
    assert torch.equal(run(), plain)


def test_a_processor_that_rotates_otherwise_is_found_out(calls, monkeypatch):
    from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

    class Halves(FluxAttnProcessor):  # type: ignore[misc]
        def __call__(self, *args: Any) -> Any:
            *rest, tables = args
            return super().__call__(*rest, tables and tuple(table.roll(3, 0) for table in tables))

    Halves.__name__ = "FluxAttnProcessor"
    model, run = models.flux()
    for block in model.transformer_blocks:
        block.attn.processor = Halves()
        for norm in (block.attn.norm_q, block.attn.norm_k):
            norm.weight.data.mul_(8)  # attention that minds where a token is
    plain = run()
    mount(model, "high", references=True)
    for _ in range(2):
        assert (run() - plain).abs().max() <= 1e-5 * plain.abs().max()
    assert "strays" in (dispatch.why_off("qk_norm_rope") or "")


def test_at_exact_attention_is_left_as_it_is(calls):
    model, run = models.wan()
    plain = run()
    mounting = mount(model, "exact", references=True)
    assert torch.equal(run(), plain)
    assert calls == []
    assert "blocks.0.attn1.processor" not in mounting.sites


def test_one_table_for_all_heads_does_not_do_for_ltx():
    from diffusers import LTXVideoTransformer3DModel

    model = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=1,
        caption_channels=16,
    )
    left = mount(model).left
    assert "each head has angles of its own" in left["transformer_blocks.0.attn1.processor"]
