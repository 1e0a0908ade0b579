"""A decode in tiles is near that in one piece, needs less memory at once, and comes off."""

from __future__ import annotations

from pathlib import Path

import torch

from inference.engine.optimise import REGISTRY, put_on, take_off
from tests.inference.engine import drive
from tests.inference.engine.optimise.drawing import begin, latents, load

BOUND = 0.25
"""Of pixels in -1 to 1, with a decoder of random weights, which knows no smooth pictures."""


def test_it_decodes_in_tiles_and_stays_near(tmp_path: Path) -> None:
    loaded = load("flux", tmp_path)
    loaded.vae.tile_sample_min_size, loaded.vae.tile_latent_min_size = 32, 16
    (sample,) = begin(loaded, (3,))
    latents([sample])
    whole = drive.pixels(sample)
    sizes: list[int] = []
    loaded.vae.decoder.register_forward_hook(lambda _m, args, _o: sizes.append(args[0].shape[-1]))
    put_on(loaded, REGISTRY["tiled_decode"], {})
    tiled = drive.pixels(sample)
    assert len(sizes) > 1
    assert max(sizes) <= 16
    assert 0 < float((tiled - whole).abs().mean()) < BOUND
    take_off(loaded)
    assert torch.equal(drive.pixels(sample), whole)
