"""Self-attention of videos within windows or chosen blocks: all of them are dense attention."""

import pytest
import torch
import torch.nn.functional as F

from kernels import dispatch, trust
from kernels.mount import sparse
from kernels.mount.mounting import mount
from kernels.mount.sparse import Blocks, Windows, mount_sparse
from kernels.ops.attention import sliding_tile
from tests.kernels import models

TILE = (2, 2, 1)  # of 3 x 3 x 2 tokens: some tiles are not whole


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(dispatch, "_off", {})
    monkeypatch.setattr(trust, "_verified", set())


@pytest.fixture
def calls(monkeypatch):
    """The grids that were attended over."""
    seen: list[tuple[int, int, int]] = []
    for method in (Windows, Blocks):
        attend = method.attend

        def spy(self, rows, grid, scale, _attend=attend, **told):
            seen.append(grid)
            return _attend(self, rows, grid, scale, **told)

        monkeypatch.setattr(method, "attend", spy)
    return seen


def ltx():
    from diffusers import LTXVideoTransformer3DModel

    torch.manual_seed(0)
    model = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=2,
        caption_channels=16,
    ).eval()
    inputs = {
        "hidden_states": torch.randn(2, 18, 4),
        "encoder_hidden_states": torch.randn(2, 5, 16),
        "encoder_attention_mask": torch.ones(2, 5),
        "timestep": torch.tensor([500.0, 500.0]),
        "num_frames": 3,
        "height": 3,
        "width": 2,
    }
    return model, models._runner(model, inputs)


def near(got, want):
    return (got - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("method", [Blocks(TILE, 1.0), Windows(TILE, (3, 3, 3))], ids=type)
@pytest.mark.parametrize("family", [models.wan, ltx])
def test_with_every_block_it_is_dense_attention(family, method, calls):
    model, run = family()
    plain = run()
    mounting = mount_sparse(model, method, references=True)
    assert near(run(), plain)
    assert calls == [(3, 3, 2)] * 2  # two layers; attention to words is none of these
    mounting.undo()
    assert torch.equal(run(), plain)
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("method", [Blocks(TILE, 0.3), Windows(TILE, (1, 1, 1))], ids=type)
def test_with_some_blocks_it_is_not(method, calls):
    model, run = models.wan()
    plain = run()
    mount_sparse(model, method, references=True)
    assert not near(run(), plain)
    assert len(calls) == 2


def test_windows_are_a_mask_over_the_video_in_its_own_order(monkeypatch):
    method, grid = Windows(TILE, (1, 1, 1)), (3, 3, 2)
    model, run = models.wan()
    mount_sparse(model, method, references=True)
    sparsely = run()
    inverse = sliding_tile.tiling(grid, TILE, 64, torch.device("cpu")).inverse
    mask = sliding_tile.window_mask(grid, TILE, (1, 1, 1), torch.device("cpu"))
    mask = mask[inverse][:, inverse]

    def masked(call, *_):
        return F.scaled_dot_product_attention(*call[:3], attn_mask=mask)

    monkeypatch.setattr(sparse, "_attend", masked)
    assert near(run(), sparsely)


def test_the_first_layers_may_stay_dense(calls):
    model, run = models.wan()
    mounting = mount_sparse(model, Blocks(TILE, 0.3), dense_layers=1, references=True)
    run()
    assert len(calls) == 1
    assert mounting.left == {"blocks.0.attn1": "one of the first layers"}
    assert list(mounting.sites) == ["blocks.1.attn1"]


def test_beside_other_operations_it_stands_aside_while_they_are_compared(calls):
    model, run = models.wan()
    alone = mount_sparse(model, Blocks(TILE, 0.3), references=True)
    want = run()
    alone.undo()
    calls.clear()
    mount_sparse(model, Blocks(TILE, 0.3), references=True)
    mount(model, "high", references=True)
    run()
    assert len(calls) == 1  # in the first layer the rotation met its attention, dense
    assert near(run(), want)
    assert len(calls) == 3
    assert dispatch._off == {}


def test_under_gradients_it_stands_aside(calls):
    model, _ = models.wan()
    mount_sparse(model, Blocks(TILE, 0.3), references=True)
    model(torch.randn(1, 4, 3, 6, 4), torch.tensor([5]), torch.randn(1, 5, 16))
    assert calls == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Windows(window=(2, 3, 3)), "odd numbers of tiles"),
        (lambda: Blocks(density=0.0), "density is above 0"),
        (lambda: Blocks(tile=(4, 0, 4)), "tile has three whole numbers above 0"),
        (lambda: mount_sparse(models.flux()[0], Blocks(), references=True), "no video model"),
        (lambda: mount_sparse(models.wan()[0], Blocks()), "heads of 64 or 128 channels"),
        (
            lambda: mount_sparse(models.wan()[0], Blocks(), dense_layers=2, references=True),
            "no self-attention",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "method", [Blocks((2, 2, 2), 0.4), Windows((2, 2, 2), (1, 3, 1))], ids=type
)
def test_kernels_are_tried_beside_their_reference(method, monkeypatch):
    cpu, half = torch.device("cpu"), torch.bfloat16
    assert sparse.problem_with(method, 64, cpu, half) is None
    assert "not in torch.float32" in (sparse.problem_with(method, 64, cpu, torch.float32) or "")
    attend = type(method).attend

    def wrong(self, *args, reference=False):
        return attend(self, *args, reference=reference) * (1 if reference else 1.1)

    monkeypatch.setattr(type(method), "attend", wrong)
    assert "it differs from its reference" in (sparse.problem_with(method, 64, cpu, half) or "")
