"""Says which tensors a denoiser and a decoder take for a picture of a given size.

The cost model runs modules on the meta device, and benchmarks run them on random weights; both
need the inputs that the pipeline of an architecture would make. One entry per class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a request asks for: pixels, frames (1: a picture), and tokens of prompt read."""

    width: int
    height: int
    num_frames: int = 1
    text_tokens: int = 77

    def __post_init__(self) -> None:
        for name in ("width", "height", "num_frames", "text_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How an autoencoder shrinks: pixels per latent and side, frames per latent, channels."""

    spatial: int
    temporal: int
    channels: int

    def latent_size(self, shape: Shape) -> tuple[int, int, int]:
        """Return (frames, height, width) of the latents, each rounded up."""
        frames = -(-(shape.num_frames - 1) // self.temporal) + 1
        return frames, -(-shape.height // self.spatial), -(-shape.width // self.spatial)


def geometry(vae: Any) -> Geometry:
    """Return the geometry of a diffusers autoencoder. Raises ValueError at an unknown class."""
    name, config = type(vae).__name__, vae.config
    if name == "AutoencoderKL":
        spatial = 2 ** (len(config.block_out_channels) - 1)
        return Geometry(spatial=spatial, temporal=1, channels=config.latent_channels)
    if name == "AutoencoderKLWan":
        spatial, temporal = config.scale_factor_spatial, config.scale_factor_temporal
        return Geometry(spatial=spatial, temporal=temporal, channels=config.z_dim)
    if name == "AutoencoderKLQwenImage":
        spatial = 2 ** len(vae.temperal_downsample)
        return Geometry(spatial=spatial, temporal=4, channels=config.z_dim)
    if name == "AutoencoderKLLTXVideo":
        spatial = vae.spatial_compression_ratio
        temporal = vae.temporal_compression_ratio
        return Geometry(spatial=spatial, temporal=temporal, channels=config.latent_channels)
    raise ValueError(f"the cost model knows no autoencoder of class {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Keyword arguments of one forward pass at batch 1, and how many tokens it works on.

    A UNet has no tokens; 16 x 16 pixels count as one, as in the transformers.
    """

    arguments: dict[str, Any]
    tokens: int


class _Maker:
    """Makes tensors of one device and dtype."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype

    def __call__(self, *shape: int) -> torch.Tensor:
        import torch

        return torch.randn(shape, device=self.device, dtype=self.dtype)

    def one(self, value: float = 500.0) -> torch.Tensor:
        """Return [1], a timestep or a guidance."""
        import torch

        return torch.full((1,), value, device=self.device, dtype=torch.float32)

    def ids(self, rows: int) -> torch.Tensor:
        """Return [rows, 3] position ids; zeros, for speed does not depend on them."""
        import torch

        return torch.zeros(rows, 3, device=self.device)


Size = tuple[int, int, int]


def _unet(config: Any, size: Size, channels: int, text: int, make: _Maker) -> Inputs:
    _, height, width = size
    arguments = {
        "sample": make(1, config.in_channels, height, width),
        "timestep": make.one(),
        "encoder_hidden_states": make(1, text, config.cross_attention_dim),
    }
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        added = {"text_embeds": make(1, pooled), "time_ids": make(1, 6)}
        arguments["added_cond_kwargs"] = added  # type: ignore[assignment]
    return Inputs(arguments=arguments, tokens=max(1, height * width // 4))


def _flux(config: Any, size: Size, channels: int, text: int, make: _Maker) -> Inputs:
    _, height, width = size
    patch = round((config.in_channels / channels) ** 0.5)
    rows = (height // patch) * (width // patch)
    arguments = {
        "hidden_states": make(1, rows, config.in_channels),
        "encoder_hidden_states": make(1, text, config.joint_attention_dim),
        "pooled_projections": make(1, config.pooled_projection_dim),
        "timestep": make.one(0.5),
        "img_ids": make.ids(rows),
        "txt_ids": make.ids(text),
    }
    if config.guidance_embeds:
        arguments["guidance"] = make.one(3.5)
    return Inputs(arguments=arguments, tokens=rows + text)


def _sd3(config: Any, size: Size, channels: int, text: int, make: _Maker) -> Inputs:
    _, height, width = size
    arguments = {
        "hidden_states": make(1, config.in_channels, height, width),
        "encoder_hidden_states": make(1, text, config.joint_attention_dim),
        "pooled_projections": make(1, config.pooled_projection_dim),
        "timestep": make.one(),
    }
    rows = (height // config.patch_size) * (width // config.patch_size)
    return Inputs(arguments=arguments, tokens=rows + text)


def _qwen(config: Any, size: Size, channels: int, text: int, make: _Maker) -> Inputs:
    frames, height, width = size
    grid = (frames, height // 2, width // 2)
    rows = grid[0] * grid[1] * grid[2]
    arguments = {
        "hidden_states": make(1, rows, config.in_channels),
        "encoder_hidden_states": make(1, text, config.joint_attention_dim),
        "timestep": make.one(0.5),
        "img_shapes": [[grid]],
    }
    return Inputs(arguments=arguments, tokens=rows + text)


def _wan(config: Any, size: Size, channels: int, text: int, make: _Maker) -> Inputs:
    frames, height, width = size
    deep, high, wide = config.patch_size
    arguments = {
        "hidden_states": make(1, config.in_channels, frames, height, width),
        "encoder_hidden_states": make(1, text, config.text_dim),
        "timestep": make.one(),
    }
    rows = (frames // deep) * (height // high) * (width // wide)
    return Inputs(arguments=arguments, tokens=rows)


def _ltx(config: Any, size: Size, channels: int, text: int, make: _Maker) -> Inputs:
    import torch

    frames, height, width = size
    rows = frames * height * width
    arguments = {
        "hidden_states": make(1, rows, config.in_channels),
        "encoder_hidden_states": make(1, text, config.caption_channels),
        "timestep": make.one(),
        "encoder_attention_mask": torch.ones(1, text, device=make.device),
        "num_frames": frames,
        "height": height,
        "width": width,
        "rope_interpolation_scale": (8 / 25, 32, 32),
    }
    return Inputs(arguments=arguments, tokens=rows)


_MAKERS: dict[str, Callable[[Any, Size, int, int, _Maker], Inputs]] = {
    "UNet2DConditionModel": _unet,
    "FluxTransformer2DModel": _flux,
    "SD3Transformer2DModel": _sd3,
    "QwenImageTransformer2DModel": _qwen,
    "WanTransformer3DModel": _wan,
    "LTXVideoTransformer3DModel": _ltx,
}


def denoiser_inputs(
    denoiser: Any,
    vae: Any,
    shape: Shape,
    device: torch.device,
    dtype: torch.dtype,
) -> Inputs:
    """Return random inputs of one forward pass of `denoiser` for one picture of `shape`.

    Raises ValueError at a class that has no entry here.
    """
    name = type(denoiser).__name__
    if name not in _MAKERS:
        raise ValueError(f"the cost model knows no denoiser of class {name}")
    frame = geometry(vae)
    size = frame.latent_size(shape)
    make = _Maker(device, dtype)
    return _MAKERS[name](denoiser.config, size, frame.channels, shape.text_tokens, make)


def multiples(denoiser: Any, vae: Any) -> tuple[int, int]:
    """Return what both sides must be a multiple of, in pixels, and the frames less one.

    Raises ValueError at an autoencoder that is not known.
    """
    found = geometry(vae)
    patch = getattr(denoiser.config, "patch_size", 1) or 1
    if type(denoiser).__name__ == "FluxTransformer2DModel":  # the pipeline packs its patches
        patch = 2
    side = patch if isinstance(patch, int) else patch[-1]
    return found.spatial * side, found.temporal


def decoder_latents(
    vae: Any, shape: Shape, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Return random latents that `vae` decodes to `shape`: [1, C, (F,) H, W]."""
    frame = geometry(vae)
    frames, height, width = frame.latent_size(shape)
    flat = type(vae).__name__ == "AutoencoderKL"
    size = (height, width) if flat else (frames, height, width)
    return _Maker(device, dtype)(1, frame.channels, *size)
