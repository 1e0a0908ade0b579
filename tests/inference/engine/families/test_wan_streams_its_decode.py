"""A clip is decoded a latent frame at a time, and the result is that of the stock decode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.engine.families.streaming import can_stream, decode_frames
from inference.engine.request import GenerationRequest
from tests.inference.clips import CHANNELS, build_wan, wan_vae
from tests.inference.engine.families.drive import denoise, finish, load, start

REQUEST = GenerationRequest(prompt="a red circle", width=64, height=32, num_frames=9, steps=1)


@pytest.mark.parametrize("residual", [False, True])
@torch.inference_mode()
def test_streamed_frames_equal_the_stock_decode(residual: bool) -> None:
    vae = wan_vae(residual=residual)
    latents = torch.randn(1, CHANNELS, 4, 4, 6, generator=torch.Generator().manual_seed(3))
    pieces = list(decode_frames(vae, latents))
    assert [piece.shape[2] for piece in pieces] == [1, 4, 4, 4]
    whole = vae.decode(latents, return_dict=False)[0]
    assert torch.dist(torch.cat(pieces, dim=2), whole, p=torch.inf) < 1e-5
    assert whole.std() > 1e-3


@torch.inference_mode()
def test_decodes_of_two_clips_take_turns() -> None:
    vae = wan_vae()
    generator = torch.Generator().manual_seed(3)
    clips = [torch.randn(1, CHANNELS, 3, 4, 6, generator=generator) for _ in range(2)]
    turns = list(zip(*(decode_frames(vae, clip) for clip in clips), strict=True))
    for number, clip in enumerate(clips):
        streamed = torch.cat([turn[number] for turn in turns], dim=2)
        assert torch.dist(streamed, vae.decode(clip, return_dict=False)[0], p=torch.inf) < 1e-5


@torch.inference_mode()
def test_a_stock_decode_between_two_slices_disturbs_nothing() -> None:
    vae = wan_vae()
    latents = torch.randn(1, CHANNELS, 3, 4, 6, generator=torch.Generator().manual_seed(3))
    whole = vae.decode(latents, return_dict=False)[0]
    pieces = []
    for piece in decode_frames(vae, latents):
        pieces.append(piece)
        vae.decode(-latents)
    assert torch.dist(torch.cat(pieces, dim=2), whole, p=torch.inf) < 1e-5


def test_there_is_a_slice_for_each_latent_frame(tmp_path: Path) -> None:
    loaded = load(build_wan(tmp_path))
    (sample,) = start(loaded, REQUEST)
    denoise([sample])
    with torch.inference_mode():
        assert sum(1 for _ in loaded.family.decode(sample)) == 1 + 3


def test_tiles_are_decoded_in_one_slice(tmp_path: Path) -> None:
    loaded = load(build_wan(tmp_path))
    (sample,) = start(loaded, REQUEST)
    denoise([sample])
    streamed = finish(loaded.family.decode(sample))
    loaded.vae.enable_tiling()
    assert not can_stream(loaded.vae)
    with torch.inference_mode():
        assert sum(1 for _ in loaded.family.decode(sample)) == 1 + 1
    assert np.array_equal(finish(loaded.family.decode(sample)).frames, streamed.frames)
