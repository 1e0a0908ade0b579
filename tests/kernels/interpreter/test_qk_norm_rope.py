"""Queries and keys, normed and rotated in place, against float64 and the chains of two models."""

import pytest
import torch

from kernels.ops.qk_norm_rope import SPEC, qk_norm_rope, qk_norm_rope_ref

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def operands(dtype, width, heads=3, head=10, batch=2, seq=5):
    torch.manual_seed(0)
    q, k = (torch.randn(batch, seq, heads * head).to(dtype) for _ in range(2))
    weights = (1 + torch.randn(2, width)).to(dtype)
    angles = torch.rand(seq, head // 2).repeat_interleave(2, -1) * 6
    return q, k, weights[0], weights[1], angles.cos(), angles.sin(), 1e-6


def truth(x, weight, cosine, sine):
    rows = x.double().unflatten(-1, (-1, weight.numel()))
    rows = rows * (rows.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()
    heads = rows.flatten(2).unflatten(-1, (-1, cosine.shape[-1] // 2, 2))
    angle = torch.complex(cosine[:, ::2].double(), sine[:, ::2].double())[None, :, None]
    return torch.view_as_real(torch.view_as_complex(heads) * angle).flatten(2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [10, 30], ids=["per head", "across heads"])
def test_it_is_that_of_float64(dtype, width):
    q, k, *rest = operands(dtype, width)
    wants = [truth(x, w, *rest[2:4]) for x, w in ((q, rest[0]), (k, rest[1]))]
    references = qk_norm_rope_ref(q, k, *rest)
    qk_norm_rope(q, k, *rest)
    for got, reference, want in zip((q, k), references, wants, strict=True):
        for found in (got, reference):
            assert (found.double() - want).abs().max() <= SPEC.bound[dtype] * want.abs().max()


def test_slices_of_one_projection_are_changed_where_they_lie():
    q, k, *rest = operands(torch.float32, 30)
    fused = torch.cat([q, k, torch.ones(2, 5, 30)], dim=-1)
    wants = qk_norm_rope_ref(q, k, *rest)
    qk_norm_rope(fused[..., :30], fused[..., 30:60], *rest)
    assert torch.allclose(fused[..., :30], wants[0], atol=1e-5)
    assert torch.allclose(fused[..., 30:60], wants[1], atol=1e-5)
    assert torch.equal(fused[..., 60:], torch.ones(2, 5, 30))


def test_it_is_what_flux_does():
    from diffusers.models.embeddings import apply_rotary_emb

    q, k, *rest = operands(torch.bfloat16, 10)
    norm = torch.nn.RMSNorm(10, eps=1e-6).to(torch.bfloat16)
    norm.weight.data = rest[0]
    heads = norm(q.unflatten(-1, (-1, 10)))
    want = apply_rotary_emb(heads, (rest[2], rest[3]), sequence_dim=1).flatten(2)
    qk_norm_rope(q, k, *rest)
    assert (q != want).float().mean() <= 0.01


def test_torch_finds_the_operator_well_made():
    torch.library.opcheck(qk_norm_rope, operands(torch.float32, 30))
