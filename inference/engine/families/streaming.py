"""Decodes Wan's autoencoder a latent frame at a time, so that a clip's decode can be interrupted.

The stock `decode` runs the same loop in one go and keeps the features that the next latent frame
needs on the model itself; here each clip has its own, so that decodes can take turns.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch


def can_stream(vae: Any) -> bool:
    """Tell whether `decode_frames` can stand for the stock decode: it does neither tiles nor hooks.

    A hook, such as that of offloading, is called by the stock `decode` only.
    """
    known = type(vae).__name__ == "AutoencoderKLWan"
    return known and not vae.use_tiling and not hasattr(vae, "_hf_hook")


def decode_frames(vae: Any, latents: torch.Tensor) -> Generator[torch.Tensor, None, None]:
    """Yield pixels in -1 to 1 for each latent frame of [1, z, frames, height, width] in turn.

    The first latent frame gives one frame, each other one the autoencoder's temporal factor.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    features: list[Any] = [None] * vae._cached_conv_counts["decoder"]
    hidden = vae.post_quant_conv(latents)
    for number in range(hidden.shape[2]):
        first = {"first_chunk": True} if number == 0 else {}
        frames = vae.decoder(
            hidden[:, :, number : number + 1], feat_cache=features, feat_idx=[0], **first
        )
        if vae.config.patch_size is not None:
            frames = unpatchify(frames, patch_size=vae.config.patch_size)
        yield frames.clamp(-1.0, 1.0)


def to_bytes(pixels: torch.Tensor) -> np.ndarray:
    """Turn pixels in -1 to 1, [1, 3, frames, height, width], into uint8 [frames, h, w, 3]."""
    import torch

    levels = ((pixels[0].float() * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    array: np.ndarray = levels.permute(1, 2, 3, 0).cpu().numpy()
    return array
