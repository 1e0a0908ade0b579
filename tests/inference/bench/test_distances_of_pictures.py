"""PSNR, SSIM and the learned distance: zero points, known values, and order."""

import numpy as np
import pytest

from inference import starter
from inference.bench.measures import EQUAL_DB, LUMA, Perceptual, psnr, ssim

RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (1, 40, 48, 3)).astype(np.uint8)


def test_equal_pictures() -> None:
    assert psnr(PICTURE, PICTURE) == EQUAL_DB
    assert ssim(PICTURE, PICTURE) == pytest.approx(1)


def test_psnr_of_one_level_everywhere() -> None:
    flat = np.full((1, 16, 16, 3), 100, np.uint8)
    assert psnr(flat, flat + 1) == pytest.approx(20 * np.log10(255))


def test_ssim_is_the_formula_of_its_paper_at_one_place() -> None:
    """One window of 11 by 11 pixels, summed by hand."""
    a, b = PICTURE[:, :11, :11], RNG.integers(0, 256, (1, 11, 11, 3)).astype(np.uint8)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / np.outer(line, line).sum()
    x, y = a[0] @ np.asarray(LUMA), b[0] @ np.asarray(LUMA)
    mx, my = (weights * x).sum(), (weights * y).sum()
    vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
    vxy = (weights * (x - mx) * (y - my)).sum()
    c1, c2 = 2.55**2, 7.65**2
    wanted = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(a, b) == pytest.approx(wanted)


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    from diffusers import AutoencoderKL

    return Perceptual(AutoencoderKL.from_pretrained(starter.path(), subfolder="vae"))


def test_the_learned_distance_grows_with_the_difference(perceptual: Perceptual) -> None:
    frames = np.full((1, 64, 64, 3), 255, np.uint8)
    circle, near, far = frames.copy(), frames.copy(), frames.copy()
    circle[0, 20:40, 20:40] = (255, 0, 0)
    near[0, 20:40, 21:41] = (255, 0, 0)
    far[0, 5:60, 5:60] = (0, 0, 255)
    _, same, close, apart = perceptual.distances([circle, circle.copy(), near, far])
    assert same == pytest.approx(0, abs=1e-6)
    assert 0 < close < apart <= 4


def test_clips_are_told_apart_by_a_video_encoder() -> None:
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan(
        base_dim=8, z_dim=16, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True]
    ).eval()
    clip = RNG.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    other = clip.copy()
    other[4] = 255 - other[4]
    _, same, apart = Perceptual(vae).distances([clip, clip.copy(), other])
    assert same == pytest.approx(0, abs=1e-6)
    assert 0 < apart <= 4
