"""Builds models of real size from configuration alone: on `meta` to count, on a device to time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.engine import sizes_data as data

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHT_STD = 0.02
"""Standard deviation of random weights; less where a layer sums over more than 2500 inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """One published model: its parts, and the request that its makers present it with.

    `parameters` is the published count of the denoiser. `text_tokens` is what the denoiser reads
    of a prompt; `guided` says that a step runs it twice (classifier-free guidance). Sizes are
    pixels and frames.
    """

    name: str
    family: str
    pipeline: str
    denoiser: data.Part
    vae: data.Part
    scheduler: data.Part
    text: Mapping[str, data.Part] = field(default_factory=dict)
    parameters: int
    text_tokens: int
    width: int
    height: int
    num_frames: int = 1
    steps: int
    guidance: float
    guided: bool

    @property
    def denoiser_name(self) -> str:
        """Name under which the pipeline keeps the denoiser."""
        return "unet" if self.denoiser[0].startswith("UNet") else "transformer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """What was built. `text` has the text encoders under the pipeline's own names."""

    denoiser: Any
    vae: Any
    text: dict[str, Any] = field(default_factory=dict)


_TWO_CLIPS = {"text_encoder": data.CLIP_L, "text_encoder_2": data.CLIP_BIG_G}
_FLUX_TEXT = {"text_encoder": data.CLIP_L, "text_encoder_2": data.T5_XXL}
_SD3_TEXT = {
    "text_encoder": data.CLIP_L_PROJECTED,
    "text_encoder_2": data.CLIP_BIG_G,
    "text_encoder_3": data.T5_XXL,
}


def _image(name: str, family: str, pipeline: str, side: int, **more: Any) -> Sizes:
    return Sizes(name=name, family=family, pipeline=pipeline, width=side, height=side, **more)


def _wan(name: str, **more: Any) -> Sizes:
    return Sizes(
        name=name,
        family="wan",
        pipeline="WanPipeline",
        text={"text_encoder": data.UMT5_XXL},
        text_tokens=512,
        steps=50,
        guidance=5.0,
        guided=True,
        **more,
    )


def _flux(name: str, *, dev: bool, parameters: int) -> Sizes:
    return _image(
        name,
        "flux",
        "FluxPipeline",
        1024,
        denoiser=data.flux(guidance=dev),
        vae=data.FLUX_VAE,
        scheduler=data.FLUX_FLOW if dev else data.SCHNELL_FLOW,
        text=_FLUX_TEXT,
        parameters=parameters,
        text_tokens=512 if dev else 256,
        steps=28 if dev else 4,
        guidance=3.5 if dev else 0.0,
        guided=False,
    )


SIZES: dict[str, Sizes] = {
    sizes.name: sizes
    for sizes in (
        _image(
            "sd1.5",
            "sd",
            "StableDiffusionPipeline",
            512,
            denoiser=data.SD15_UNET,
            vae=data.SD_VAE,
            scheduler=data.euler(),
            text={"text_encoder": data.CLIP_L},
            parameters=859_520_964,
            text_tokens=77,
            steps=50,
            guidance=7.5,
            guided=True,
        ),
        _image(
            "sd2.1",
            "sd",
            "StableDiffusionPipeline",
            768,
            denoiser=data.SD21_UNET,
            vae=data.SD21_VAE,
            scheduler=data.euler("v_prediction"),
            text={"text_encoder": data.CLIP_H},
            parameters=865_910_724,
            text_tokens=77,
            steps=50,
            guidance=7.5,
            guided=True,
        ),
        _image(
            "sdxl",
            "sdxl",
            "StableDiffusionXLPipeline",
            1024,
            denoiser=data.SDXL_UNET,
            vae=data.SDXL_VAE,
            scheduler=data.euler(),
            text=_TWO_CLIPS,
            parameters=2_567_463_684,
            text_tokens=77,
            steps=50,
            guidance=5.0,
            guided=True,
        ),
        _flux("flux-dev", dev=True, parameters=11_901_408_320),
        _flux("flux-schnell", dev=False, parameters=11_891_178_560),
        _image(
            "sd3.5-medium",
            "sd3",
            "StableDiffusion3Pipeline",
            1024,
            denoiser=data.SD35_MEDIUM,
            vae=data.SD3_VAE,
            scheduler=data.SD3_FLOW,
            text=_SD3_TEXT,
            parameters=2_243_171_520,
            text_tokens=333,
            steps=40,
            guidance=4.5,
            guided=True,
        ),
        _image(
            "qwen-image",
            "qwen",
            "QwenImagePipeline",
            1024,
            denoiser=data.QWEN_IMAGE,
            vae=data.QWEN_VAE,
            scheduler=data.QWEN_FLOW,
            text={"text_encoder": data.QWEN25_VL_7B},
            parameters=20_430_401_088,
            text_tokens=64,
            steps=50,
            guidance=4.0,
            guided=True,
        ),
        _wan(
            "wan2.1-1.3b",
            denoiser=data.wan(12, 30, 8960),
            vae=data.WAN21_VAE,
            scheduler=data.unipc(3.0),
            parameters=1_418_996_800,
            width=832,
            height=480,
            num_frames=81,
        ),
        _wan(
            "wan2.1-14b",
            denoiser=data.wan(40, 40, 13824),
            vae=data.WAN21_VAE,
            scheduler=data.unipc(5.0),
            parameters=14_288_491_584,
            width=1280,
            height=720,
            num_frames=81,
        ),
        _wan(
            "wan2.2-ti2v-5b",
            denoiser=data.wan(24, 30, 14336, channels=48),
            vae=data.WAN22_VAE,
            scheduler=data.unipc(5.0),
            parameters=4_999_787_712,
            width=1280,
            height=704,
            num_frames=121,
        ),
        Sizes(
            name="ltx-2b",
            family="ltx",
            pipeline="LTXPipeline",
            denoiser=data.LTX_2B,
            vae=data.LTX_VAE,
            scheduler=data.LTX_FLOW,
            text={"text_encoder": data.T5_XXL},
            parameters=1_923_385_472,
            text_tokens=128,
            width=704,
            height=480,
            num_frames=161,
            steps=50,
            guidance=3.0,
            guided=True,
        ),
    )
}


def get(name: str) -> Sizes:
    """Return the model called `name`. Raises ValueError that lists the names there are."""
    if name not in SIZES:
        raise ValueError(f"no sizes are known for {name!r}; there are {', '.join(SIZES)}")
    return SIZES[name]


def _construct(part: data.Part) -> Any:
    """Make the module of `part` the way its library makes one from a configuration."""
    class_name, config = part
    import diffusers

    if hasattr(diffusers, class_name):
        module = getattr(diffusers, class_name).from_config(dict(config))
        return module.eval()
    import transformers

    model = getattr(transformers, class_name)
    module = model(model.config_class(**config))
    return module.eval()


def meta_part(part: data.Part, dtype: torch.dtype | None = None) -> Any:
    """Return the module of `part` on the meta device: shapes without memory (0.05 to 0.5 s).

    With `dtype`, in the number formats that a load in `dtype` would give it.
    """
    import torch

    device = torch.device("meta")
    with device:
        module = _construct(part)
    if dtype is not None:
        _materialise(module, device, dtype, None)
    return module


def meta(name: str, *, text: bool = False) -> Modules:
    """Return the modules of `name` on the meta device. Raises ValueError at an unknown name."""
    sizes = get(name)
    encoders = sizes.text if text else {}
    return Modules(
        denoiser=meta_part(sizes.denoiser),
        vae=meta_part(sizes.vae),
        text={key: meta_part(part) for key, part in encoders.items()},
    )


def _fill(name: str, tensor: torch.Tensor, generator: torch.Generator) -> None:
    """Give a parameter values that keep activations tame: norms 1, biases 0, the rest small."""
    leaf = name.rpartition(".")[2]
    if leaf == "gamma" or (leaf == "weight" and tensor.dim() == 1):
        tensor.fill_(1.0)
    elif leaf == "bias" or tensor.dim() < 2:
        tensor.zero_()
    else:
        inputs = tensor[0].numel()
        tensor.normal_(0.0, min(WEIGHT_STD, inputs**-0.5), generator=generator)


def _materialise(
    module: nn.Module, device: torch.device, dtype: torch.dtype, generator: torch.Generator | None
) -> None:
    """Put parameters on `device` in the number formats that a load would give them.

    They are drawn from `generator`, or left empty where there is none.
    """
    import torch
    from torch import nn

    in_fp32 = getattr(module, "_keep_in_fp32_modules", None) or []
    if not type(module).__module__.startswith("diffusers.") and dtype != torch.float16:
        in_fp32 = []  # transformers means float16 only
    made: dict[int, nn.Parameter] = {}
    for prefix, owner in module.named_modules():
        for leaf, parameter in list(owner._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in made:
                name = f"{prefix}.{leaf}"
                exact = any(part in in_fp32 for part in name.split("."))
                kind = torch.float32 if exact else dtype
                tensor = torch.empty(parameter.shape, device=device, dtype=kind)
                if generator is not None:
                    _fill(name, tensor, generator)
                made[id(parameter)] = nn.Parameter(tensor, requires_grad=False)
            owner._parameters[leaf] = made[id(parameter)]
        for leaf, buffer in list(owner._buffers.items()):
            if buffer is not None:
                stored = leaf not in owner._non_persistent_buffers_set
                kind = dtype if stored and buffer.is_floating_point() else buffer.dtype
                owner._buffers[leaf] = buffer.to(device, kind)


def build_part(part: data.Part, device: torch.device, dtype: torch.dtype, *, seed: int = 0) -> Any:
    """Return the module of `part` on `device` with random weights that depend on `seed` only.

    Parameters are made one at a time where they will stay, so that the peak of memory is the size
    of the module. Raises torch.OutOfMemoryError where it does not fit.
    """
    import torch
    from accelerate import init_empty_weights

    # Only parameters go to meta: buffers hold what the constructor computed (positions, angles).
    with init_empty_weights(include_buffers=False):
        module = _construct(part)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        _materialise(module, device, dtype, generator)
    return module.requires_grad_(False)


def build(
    sizes: str | Sizes, device: torch.device, dtype: torch.dtype, *, text: bool = False
) -> Modules:
    """Return random-weight modules of real size on `device`, for benchmarks of speed.

    With `text`, the text encoders too (up to 16 GB). Raises ValueError at an unknown name.
    """
    model = get(sizes) if isinstance(sizes, str) else sizes
    encoders = model.text if text else {}
    return Modules(
        denoiser=build_part(model.denoiser, device, dtype),
        vae=build_part(model.vae, device, dtype, seed=1),
        text={
            key: build_part(part, device, dtype, seed=2 + index)
            for index, (key, part) in enumerate(encoders.items())
        },
    )
