"""Predicts seconds and bytes of a request from counted work and the roofs of a device."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.engine.roofs import Roof
from inference.engine.shapes import Shape
from inference.engine.sizes import Sizes

if TYPE_CHECKING:
    from inference.engine.meter import Cost

CONTEXT_BYTES = 600 * 1024**2
"""What a CUDA context and the libraries' workspaces take."""
FRAGMENTATION = 1.1
"""How much more an allocator reserves than it hands out."""
WAVES, TILE, WIDTH = 3, 128 * 256, 3072
"""How often products should fill all cores, elements of one core's tile, and a usual width."""
ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1, "int8": 1}

Part = tuple[str, Mapping[str, Any]]
"""A class name and its configuration; `part_of` reads them off a module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The parts of a model that cost is counted on: a real size, or what a pipeline holds."""

    denoiser: Part
    vae: Part
    text: Mapping[str, Part] = field(default_factory=dict)

    @classmethod
    def of_sizes(cls, sizes: Sizes) -> Architecture:
        """Take the parts of a published model."""
        return cls(denoiser=sizes.denoiser, vae=sizes.vae, text=sizes.text)

    @classmethod
    def of_pipeline(cls, pipeline: Any) -> Architecture:
        """Read the parts off a loaded diffusers pipeline, compiled or not."""
        denoiser = getattr(pipeline, "transformer", None)
        if denoiser is None:
            denoiser = pipeline.unet
        encoders = {
            name: part_of(module)
            for name, module in pipeline.components.items()
            if name.startswith("text_encoder") and module is not None
        }
        return cls(denoiser=part_of(denoiser), vae=part_of(pipeline.vae), text=encoders)


def part_of(module: Any) -> Part:
    """Return class name and configuration of a diffusers or transformers module."""
    module = getattr(module, "_orig_mod", module)
    config: Any = module.config
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return type(module).__name__, {k: v for k, v in values.items() if not k.startswith("_")}


@functools.lru_cache(maxsize=16)
def _meta(class_name: str, config: str, dtype: str) -> Any:
    import torch

    from inference.engine.sizes import meta_part

    return meta_part((class_name, json.loads(config)), getattr(torch, dtype))


def _module(part: Part, dtype: str) -> Any:
    storage = dtype if dtype in ("float32", "bfloat16", "float16") else "bfloat16"
    return _meta(part[0], json.dumps(part[1], sort_keys=True, default=str), storage)


def multiples(architecture: Architecture, dtype: str = "bfloat16") -> tuple[int, int]:
    """Return what both sides must be a multiple of, in pixels, and the frames less one."""
    from inference.engine import shapes

    return shapes.multiples(_module(architecture.denoiser, dtype), _module(architecture.vae, dtype))


def _key(architecture: Architecture) -> tuple[str, str]:
    parts = (architecture.denoiser, architecture.vae)
    one, two = (json.dumps(part, sort_keys=True, default=str) for part in parts)
    return one, two


_costs: dict[Hashable, Cost] = {}
MAX_COSTS = 512


def _remember(key: Hashable, cost: Cost) -> Cost:
    if len(_costs) >= MAX_COSTS:
        _costs.pop(next(iter(_costs)), None)
    _costs[key] = cost
    return cost


def forward_cost(architecture: Architecture, shape: Shape, dtype: str = "bfloat16") -> Cost:
    """Return the cost of one pass of the denoiser at batch 1 (counted once: 0.1 to 2 s).

    Counted on a meta copy, so device, optimisations and hooks of the real one play no part.
    Raises ValueError at a class that the cost model does not know.
    """
    key = ("forward", _key(architecture), shape, dtype)
    if key in _costs:
        return _costs[key]
    import torch

    from inference.engine import meter, shapes

    denoiser, vae = _module(architecture.denoiser, dtype), _module(architecture.vae, dtype)
    number = next(p.dtype for p in vae.parameters())
    given = shapes.denoiser_inputs(denoiser, vae, shape, torch.device("meta"), number)
    cost = meter.measure(denoiser, lambda: denoiser(**given.arguments), tokens=given.tokens)
    return _remember(key, cost)


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile of a tiled decode: its side in pixels, and how far apart tiles begin."""

    side: int
    stride: int

    def count(self, pixels: int) -> int:
        return max(1, math.ceil(pixels / self.stride))


def _tile(vae: Any) -> _Tile:
    """Return how diffusers cuts what `vae` decodes once tiling is on."""
    if hasattr(vae, "tile_sample_min_height"):
        return _Tile(vae.tile_sample_min_height, vae.tile_sample_stride_height)
    side = int(vae.tile_sample_min_size)
    return _Tile(side, int(side * (1 - vae.tile_overlap_factor)))


def decode_cost(
    architecture: Architecture, shape: Shape, dtype: str = "bfloat16", *, tiled: bool = False
) -> Cost:
    """Return the cost of decoding one picture or video (counted once: 0.1 to 3 s).

    A tiled decode is the cost of one tile times the tiles, with the peak of one tile and two
    copies of the result. Raises ValueError at a class that the cost model does not know.
    """
    key = ("decode", _key(architecture), shape, dtype, tiled)
    if key in _costs:
        return _costs[key]
    import torch

    from inference.engine import meter, shapes

    vae = _module(architecture.vae, dtype)
    if tiled:
        tile = _tile(vae)
        if shape.width > tile.side or shape.height > tile.side:
            return _remember(key, _tiled(architecture, shape, dtype, tile))
    number = next(parameter.dtype for parameter in vae.parameters())
    latents = shapes.decoder_latents(vae, shape, torch.device("meta"), number)
    decoder = getattr(vae, "decoder", vae)
    cost = meter.measure(
        vae,
        lambda: vae.decode(latents, return_dict=False),
        tokens=latents.numel() // latents.shape[1],
        weights=meter.weight_bytes(decoder),
    )
    return _remember(key, cost)


def _tiled(architecture: Architecture, shape: Shape, dtype: str, tile: _Tile) -> Cost:
    import dataclasses

    one = dataclasses.replace(
        shape, width=min(shape.width, tile.side), height=min(shape.height, tile.side)
    )
    cost = decode_cost(architecture, one, dtype)
    count = tile.count(shape.width) * tile.count(shape.height)
    result = shape.width * shape.height * shape.num_frames * 3 * ELEMENT_BYTES.get(dtype, 2)
    return dataclasses.replace(
        cost.batch(count),
        weight_bytes=cost.weight_bytes * count,
        operations=cost.operations * count,
        peak_bytes=cost.peak_bytes + 2 * result,
    )


def encode_cost(architecture: Architecture, shape: Shape, dtype: str = "bfloat16") -> Cost:
    """Return the cost of encoding one prompt: two operations per weight and token."""
    from inference.engine import meter

    outside = ("embed", "shared", "visual", "lm_head")
    parameters = total = layers = 0
    for part in architecture.text.values():
        module = _module(part, dtype)
        total += meter.weight_bytes(module)
        layers += sum(type(m).__name__ == "Linear" for m in module.modules())
        for name, parameter in module.named_parameters():
            if not any(word in name for word in outside):
                parameters += parameter.numel()
    return meter.Cost(
        matmul_flops=2.0 * parameters * shape.text_tokens,
        attention_flops=0.0,
        matmul_bytes=0.0,
        attention_bytes=0.0,
        elementwise_bytes=0.0,
        weight_bytes=total,
        peak_bytes=0.0,
        operations=4 * layers,
        tokens=shape.text_tokens,
    )


def floor_seconds(cost: Cost, roof: Roof, dtype: str = "bfloat16") -> float:
    """Return what physics asks for at least: all operations at peak, or the weights read once."""
    return max(cost.flops / roof.peak(dtype), cost.weight_bytes / roof.bandwidth)


def _attention(dtype: str) -> str:
    """Return what attention computes in: quantised models keep it in bfloat16."""
    return "bfloat16" if dtype in ("float8", "int8") else dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Seconds of one pass by what takes them: three kinds of kernels, and the host's launches."""

    matmul: float
    attention: float
    elementwise: float
    launch: float
    hidden_launch: bool

    @property
    def device(self) -> float:
        """Seconds that the device works."""
        return self.matmul + self.attention + self.elementwise

    @property
    def seconds(self) -> float:
        """Seconds that pass: launches run ahead of the device, or add up."""
        return max(self.device, self.launch) if self.hidden_launch else self.device + self.launch

    def scaled(self, factor: float) -> Breakdown:
        """Return all of it `factor` times."""
        return Breakdown(
            matmul=self.matmul * factor,
            attention=self.attention * factor,
            elementwise=self.elementwise * factor,
            launch=self.launch * factor,
            hidden_launch=self.hidden_launch,
        )


def breakdown(cost: Cost, roof: Roof, dtype: str = "bfloat16") -> Breakdown:
    """Return predicted seconds of one eager pass: each kind of kernel under its own roofline.

    Kernels of one kind follow those of another, so compute of one never hides memory of another.
    Raises ValueError where the device has no units for `dtype`.
    """
    peak, bandwidth = roof.peak(dtype), roof.bandwidth * roof.bandwidth_share
    matmul = cost.matmul_flops / (peak * roof.matmul_share)
    attention = cost.attention_flops / (roof.peak(_attention(dtype)) * roof.attention_share)
    return Breakdown(
        matmul=max(matmul, (cost.matmul_bytes + cost.weight_bytes) / bandwidth),
        attention=max(attention, cost.attention_bytes / bandwidth),
        elementwise=cost.elementwise_bytes / bandwidth,
        launch=cost.operations * roof.operation_seconds,
        hidden_launch=roof.hidden_launch,
    )


def seconds(cost: Cost, roof: Roof, dtype: str = "bfloat16") -> float:
    """Return predicted seconds of one pass in eager mode, launches included."""
    return breakdown(cost, roof, dtype).seconds


def token_budget(cost: Cost, roof: Roof, dtype: str = "bfloat16", *, waste: float = 0.2) -> int:
    """Return how many tokens a batch needs before the device, not the host, sets its pace.

    Below it more requests ride along for nearly nothing; above it they only wait for each other.
    It is the largest of three: the ridge of the roofline, at which reading weights takes as long as
    using them; the rows at which products fill every core three times over (a last wave that is
    nearly empty then wastes a quarter at most); and the tokens for which the device works as long
    as the host launches. Where launches do not hide behind the device (a CPU), the third is where
    they are the share `waste` of the whole.
    """
    many = breakdown(cost.batch(64), roof, dtype)
    per_token = many.device / (64 * cost.tokens)
    share = 1.0 if roof.hidden_launch else (1 - waste) / waste
    ridge = roof.ridge(dtype) * ELEMENT_BYTES.get(dtype, 2) / 2
    rows = WAVES * roof.cores * TILE / WIDTH
    return math.ceil(max(ridge, rows, share * many.launch / per_token))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Seconds of one request alone on a device, by stage, and the most memory it needs, bytes.

    `step` is one step, `decode` the decode of all pictures. `decode_bytes` and `denoise_bytes` are
    activations; `weights` are bytes per part; `tokens` are those of all passes of a step.
    """

    step: Breakdown
    steps: int
    encode_seconds: float
    decode: Breakdown
    denoise_bytes: float
    decode_bytes: float
    weights: Mapping[str, float]
    overhead_bytes: float
    tokens: int

    @property
    def step_seconds(self) -> float:
        """Seconds of one step."""
        return self.step.seconds

    @property
    def decode_seconds(self) -> float:
        """Seconds from the last step to pixels."""
        return self.decode.seconds

    @property
    def seconds(self) -> float:
        """From prompt to pixels."""
        return self.encode_seconds + self.steps * self.step_seconds + self.decode_seconds

    @property
    def peak_bytes(self) -> float:
        """Weights, and the larger of what denoising and decoding need beside them."""
        activations = max(self.denoise_bytes, self.decode_bytes)
        return sum(self.weights.values()) + FRAGMENTATION * activations + self.overhead_bytes


def predict(
    architecture: Architecture,
    roof: Roof,
    shape: Shape,
    *,
    dtype: str = "bfloat16",
    steps: int,
    guided: bool = False,
    batch: int = 1,
    tiled: bool = False,
    correction: float = 1.0,
) -> Prediction:
    """Predict a request of `batch` pictures; `guided` runs each through the denoiser twice.

    `correction` multiplies the seconds of a step (see Correction). Raises ValueError where the
    device has no units for `dtype`, or at a class that the cost model does not know.
    """
    from inference.engine import meter

    forward = forward_cost(architecture, shape, dtype).batch(batch * (2 if guided else 1))
    decode = decode_cost(architecture, shape, dtype, tiled=tiled)
    encode = encode_cost(architecture, shape, dtype).batch(2 if guided else 1)
    return Prediction(
        step=breakdown(forward, roof, dtype).scaled(correction),
        steps=steps,
        encode_seconds=seconds(encode, roof, dtype) if architecture.text else 0.0,
        decode=breakdown(decode, roof, dtype).scaled(batch),
        denoise_bytes=forward.peak_bytes,
        decode_bytes=decode.peak_bytes,
        weights={
            "denoiser": forward.weight_bytes,
            "vae": meter.weight_bytes(_module(architecture.vae, dtype)),
            "text": encode.weight_bytes,
        },
        overhead_bytes=CONTEXT_BYTES if roof.kind == "cuda" else 0.0,
        tokens=forward.tokens,
    )
