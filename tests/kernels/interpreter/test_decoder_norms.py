"""GroupNorm and RMSNorm with SiLU against float64, in either order of channels and pixels."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels._triton import jit, tl
from kernels.ops import group_norm_silu as group
from kernels.ops import rms_norm_silu as rms
from kernels.ops.planes import places

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def within(got, want, bound):
    assert (got.double() - want).abs().max() <= bound * want.abs().max()


def grouped(x, weight, bias, groups, silu=True):
    h = F.group_norm(x.double(), groups, weight.double(), bias.double(), 1e-6)
    return F.silu(h) if silu else h


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("shape", "groups"), [((2, 12, 5, 7), 4), ((1, 6, 3, 2, 5), 2)], ids=str)
def test_a_group_norm_is_that_of_float64(shape, groups, last, dtype):
    x = draw(*shape, dtype=dtype) * 3 + 1
    x = x.to(memory_format=FORMATS[x.ndim]) if last else x
    weight, bias = draw(shape[1], dtype=dtype), draw(shape[1], dtype=dtype, seed=1)
    for silu in (True, False):
        got = group.group_norm_silu(x, weight, bias, groups, 1e-6, silu)
        assert (got.dtype, got.shape, got.stride()) == (dtype, x.shape, x.stride())
        within(got, grouped(x, weight, bias, groups, silu), group.SPEC.bound[dtype])


@pytest.mark.parametrize("last", [False, True])
def test_a_group_of_many_chunks_with_a_mean_far_from_zero(last, monkeypatch):
    monkeypatch.setattr(group, "_TILE", 64)
    monkeypatch.setattr(group, "_STEPS", 2)
    x = draw(1, 6, 9, 13) + 300
    x = x.to(memory_format=torch.channels_last) if last else x
    weight, bias = draw(6), draw(6, seed=1)
    got = group.group_norm_silu(x, weight, bias, 2, 1e-6)
    # The input itself is known to 300 * 2**-24 only.
    within(got, grouped(x, weight, bias, 2), group.SPEC.bound[torch.float32] + 300 * 2**-22)


def test_what_lies_in_neither_order_is_read_right():
    x = draw(2, 5, 7, 12).permute(0, 3, 2, 1)[:, :, ::2]
    weight, bias = draw(12), draw(12, seed=1)
    got = group.group_norm_silu(x, weight, bias, 4, 1e-6)
    within(got, grouped(x, weight, bias, 4), group.SPEC.bound[torch.float32])


def wan(x, gamma, bias):
    h = F.normalize(x.double(), dim=1) * x.shape[1] ** 0.5 * gamma.double()
    return F.silu(h if bias is None else h + bias.double())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_the_norm_of_wan_is_that_of_float64(biased, last, dtype):
    x = draw(2, 96, 3, 2, 5, dtype=dtype) * 3 + 1
    x = x.to(memory_format=torch.channels_last_3d) if last else x
    gamma = draw(96, 1, 1, 1, dtype=dtype)
    bias = draw(96, 1, 1, 1, dtype=dtype, seed=1) if biased else None
    got = rms.rms_norm_silu(x, gamma, bias, 1e-12, False)
    assert (got.dtype, got.stride()) == (dtype, x.stride())
    within(got, wan(x, gamma, bias), rms.SPEC.bound[dtype])


def test_it_agrees_with_the_modules_of_diffusers():
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm

    module = WanRMS_norm(24, images=False)
    x = draw(1, 24, 3, 2, 5, dtype=torch.bfloat16)
    with torch.no_grad():
        module.gamma.copy_(draw(24, 1, 1, 1))
        want = F.silu(module.bfloat16()(x))
        got = rms.rms_norm_silu(x, module.gamma, None, 1e-12, False)
        assert torch.equal(rms.rms_norm_silu_ref(x, module.gamma, None, 1e-12, False), want)
    # The same roundings: a sum in another order moves a value across one now and then.
    assert (got != want).float().mean() <= 0.01


def test_a_pixel_of_zeros_stays_zero():
    x = torch.zeros(1, 8, 1, 2, 3)
    assert torch.equal(rms.rms_norm_silu(x, torch.ones(8), None, 1e-12, False), x)


@settings(max_examples=12, deadline=None)
@given(
    width=st.integers(1, 70),
    pixels=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 9)),
    last=st.booleans(),
)
def test_the_norm_of_ltx_holds_for_any_shape(width, pixels, last):
    x = draw(2, width, *pixels)
    x = x.to(memory_format=torch.channels_last_3d) if last else x
    gamma = draw(width, seed=1)
    h = x.double() * (x.double().pow(2).mean(1, keepdim=True) + 1e-8).rsqrt()
    want = F.silu(h * gamma.double().view(-1, 1, 1, 1))
    within(rms.rms_norm_silu(x, gamma, None, 1e-8, True), want, rms.SPEC.bound[torch.float32])


def test_torch_finds_the_operators_well_made():
    x = draw(2, 4, 3, 5).to(memory_format=torch.channels_last)
    torch.library.opcheck(group.group_norm_silu, (x, draw(4), draw(4), 2, 1e-6))
    torch.library.opcheck(rms.rms_norm_silu, (x, draw(4), None, 1e-12, False))


@jit
def last_places_kernel(out, pixels, channels, LAST: tl.constexpr):  # noqa: N803
    pixel, channel = pixels - 2 + tl.arange(0, 2), channels - 2 + tl.arange(0, 2)
    at = places(pixel, channel, pixels, channels, LAST)
    tl.store(out + tl.arange(0, 2)[:, None] * 2 + tl.arange(0, 2)[None, :], at)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("pixels", "channels"), [(4096 * 4096, 256), (17 * 1088 * 1920, 192)])
def test_places_of_large_pictures_do_not_overflow(pixels, channels, last):
    out = torch.zeros(4, dtype=torch.int64)
    last_places_kernel[(1,)](out, pixels, channels, LAST=last)
    assert out.max().item() == pixels * channels - 1
