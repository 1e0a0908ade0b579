"""What mixed traffic is made of: requests of several models, each with its own true answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference import starter
from inference.engine.request import Media, Video
from inference.engine.weights import Model, digest_of
from tests.inference.clips import build_wan
from tests.inference.engine.lora.files import Maker, Tensors, flux_peft, save, sha256
from tests.inference.pipelines import build_flux

STARTER_SIZES = (64, 96, 128)
PROMPTS = (
    "a red circle on a white background",
    "a blue square above a green circle on a black background",
)
LEVELS = 1
"""Two roundings to 8 bits of pictures that are equal within the family's bound differ so much."""


@dataclass(slots=True, kw_only=True)
class Case:
    """One request, as a job's input has it. `error` matches what it must fail with, if it must.

    `expected` is what it gives when it runs alone: uint8 [frames, height, width, 3].
    """

    name: str
    model: Model
    input: dict[str, Any]
    error: str | None = None
    steps: int = 0
    expected: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))

    @property
    def clip(self) -> bool:
        """Whether it makes a clip."""
        return "num_frames" in self.input


def frames_of(media: Media) -> np.ndarray:
    """Return a picture or a clip as uint8 [frames, height, width, 3]."""
    return media.frames if isinstance(media, Video) else np.asarray(media)[None]


def distance(ours: np.ndarray, expected: np.ndarray) -> int:
    """Return the largest difference in levels of 255."""
    assert ours.shape == expected.shape, (ours.shape, expected.shape)
    return int(np.abs(ours.astype(int) - expected.astype(int)).max())


def starter_model() -> Model:
    """The trained model of pictures that ships with the repository."""
    directory = starter.path("starter-image")
    return Model(uri="starter:starter-image", digest=digest_of(directory), family="flux")


def _starter_lora(seed: int, strength: float) -> Tensors:
    """Change attention of both kinds of block of the starter model."""
    maker = Maker(seed, 4, strength)
    return {
        **maker.peft("transformer.transformer_blocks.0.attn.to_q", 128, 128),
        **maker.peft("transformer.transformer_blocks.1.attn.to_v", 128, 128),
        **maker.peft("transformer.single_transformer_blocks.3.attn.to_k", 128, 128),
    }


def _use(path: Path, scale: float) -> dict[str, Any]:
    return {"uri": path.as_uri(), "digest": sha256(path), "scale": scale}


def build_cases(weights: Path) -> list[Case]:
    """Save models and LoRAs below `weights` and return the traffic's kinds of request."""
    torch.manual_seed(0)
    image = starter_model()
    video, flux = (
        Model(uri=directory.as_uri(), digest=digest_of(directory), family=family)
        for directory, family in (
            (build_wan(weights / "soak-wan"), "wan"),
            (build_flux(weights / "soak-flux", poison=True), "flux"),
        )
    )
    starters = [
        save(weights / f"soak-starter-{seed}.safetensors", _starter_lora(seed, 0.1))
        for seed in range(4)
    ]
    tiny = [save(weights / f"soak-flux-{seed}.safetensors", flux_peft(seed)) for seed in range(3)]
    return [
        *_pictures(image, [_use(path, 0.8) for path in starters]),
        *_clips(video),
        *_tiny(flux, [_use(path, 1.0) for path in tiny]),
    ]


def _pictures(model: Model, loras: list[dict[str, Any]]) -> Iterator[Case]:
    sets: list[list[dict[str, Any]]] = [[], *([lora] for lora in loras), loras[:2]]
    for number, side in enumerate(STARTER_SIZES):
        for worn in sets if side == 64 else sets[number::3]:
            yield Case(
                name=f"starter {side} with {len(worn)} LoRAs",
                model=model,
                input={
                    **starter.defaults("starter-image"),
                    "prompt": PROMPTS[number % 2],
                    "negative_prompt": PROMPTS[1] if worn else "",
                    "width": side,
                    "height": side,
                    "steps": 4 + number,
                    "seed": number,
                    "loras": worn,
                },
            )


def _clips(model: Model) -> Iterator[Case]:
    for number, (width, frames) in enumerate([(32, 5), (64, 9), (48, 5)]):
        yield Case(
            name=f"clip {width} x {frames}",
            model=model,
            input={
                "prompt": "a red circle",
                "negative_prompt": "blue" if number else "",
                "width": width,
                "height": 32,
                "num_frames": frames,
                "steps": 3 + number,
                "guidance": 4.0,
                "seed": number,
            },
        )


def _tiny(model: Model, loras: list[dict[str, Any]]) -> Iterator[Case]:
    sets: list[list[dict[str, Any]]] = [[], *([lora] for lora in loras)]
    for number, worn in enumerate(sets):
        common = {"width": 64, "height": 64, "steps": 6, "seed": number, "guidance": 3.0}
        yield Case(
            name=f"tiny with {len(worn)} LoRAs",
            model=model,
            input={**common, "prompt": "a green square", "loras": worn},
        )
    # Its last word has no embedding in this model: the text encoder raises, for all it encodes.
    yield Case(
        name="poison in the text",
        model=model,
        input={"prompt": "a poison circle", "width": 64, "height": 64, "steps": 6, "loras": []},
        error=r"the model failed \(IndexError\)",
    )


def overflowing(weights: Path, model: Model) -> Case:
    """A request whose LoRA overflows: its latents are no numbers from the first step on."""
    huge = {name: value * 1e30 for name, value in _starter_lora(9, 1.0).items()}
    path = save(weights / "soak-overflow.safetensors", huge)
    return Case(
        name="poison in a LoRA",
        model=model,
        input={
            **starter.defaults("starter-image"),
            "prompt": PROMPTS[0],
            "width": 64,
            "height": 64,
            "steps": 4,
            "loras": [_use(path, 1.0)],
        },
        error=r"the model failed \(FloatingPointError\)",
    )


def refuse_what_is_no_number(denoiser: torch.nn.Module) -> None:
    """Let a model raise at a batch in which any row is not a number, as a debug build would."""

    def look(_module: object, _args: object, given: dict[str, torch.Tensor]) -> None:
        if not torch.isfinite(given["hidden_states"]).all():
            raise FloatingPointError("a row is not a number")

    denoiser.register_forward_pre_hook(look, with_kwargs=True)
