"""Builds pipelines of real size with random weights, and without text encoders.

Prompts are random embeddings of the shape that the encoders give: a T5-XXL would take ten
gigabytes and seconds of the budget, and is the same work for every system that is compared.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from inference.bench.gpu.cases import Case
from inference.engine.families import get_family
from inference.engine.families.base import Family, import_diffusers
from inference.engine.loaded import Loaded
from inference.engine.sizes import Sizes, build

if TYPE_CHECKING:
    import torch

    from inference.engine.device import Device
    from inference.engine.request import GenerationRequest
    from inference.engine.sample import Inputs, Sample


def pipeline(sizes: Sizes, device: Device) -> Any:
    """Return the stock pipeline of `sizes` with random weights and no text encoder.

    Raises torch.OutOfMemoryError where it does not fit.
    """
    diffusers = import_diffusers()
    built = build(sizes, device.device, device.dtype)
    scheduler, config = sizes.scheduler
    cls = getattr(diffusers, sizes.pipeline)
    parameters = inspect.signature(cls.__init__).parameters
    texts = [name for name in parameters if name.startswith(("text_encoder", "tokenizer"))]
    options: dict[str, Any] = dict.fromkeys(texts)
    if sizes.name.startswith("wan2.2-ti2v"):
        options["expand_timesteps"] = True
    made = cls(
        vae=built.vae,
        scheduler=getattr(diffusers, scheduler).from_config(dict(config)),
        **{sizes.denoiser_name: built.denoiser},
        **options,
    )
    made.set_progress_bar_config(disable=True)
    return made


def embeddings(pipeline: Any, case: Case, device: Device) -> Inputs:
    """Return random text inputs of the denoiser under its own names, each [1, ...]."""
    import torch

    from inference.engine.shapes import Shape, denoiser_inputs

    denoiser = getattr(pipeline, case.sizes.denoiser_name)
    side = Shape(width=64, height=64, text_tokens=case.sizes.text_tokens)
    generator = torch.Generator(device.device).manual_seed(0)
    made = denoiser_inputs(denoiser, pipeline.vae, side, torch.device("meta"), device.dtype)
    shapes = {**made.arguments, **made.arguments.get("added_cond_kwargs", {})}
    names = ("encoder_hidden_states", "pooled_projections", "text_embeds")
    return {
        name: torch.randn(
            shapes[name].shape, generator=generator, device=device.device, dtype=device.dtype
        )
        for name in names
        if name in shapes
    }


class _RandomText(Family):
    """Stands before an adapter: every prompt is the same random embedding."""

    inputs_of_text: Inputs

    def window(self, loaded: Loaded, request: GenerationRequest) -> int:
        """Return the length of the embedding, or 1 where there is no such axis."""
        return int(self.inputs_of_text["encoder_hidden_states"].shape[1])

    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """Return the embedding for each text."""
        return [dict(self.inputs_of_text) for _ in texts]

    def time_ids(self, sample: Sample) -> torch.Tensor:
        """Original size, crop and target size, [1, 6]: SDXL asks its text encoder for their type.

        Other families do not ask.
        """
        import torch

        size = (sample.request.height, sample.request.width)
        return torch.tensor([[*size, 0, 0, *size]]).to(sample.latents)


def load(case: Case, base: Any, device: Device) -> Loaded:
    """Return `base` as the engine holds it, with its adapter told to take random embeddings."""
    adapter = type(get_family(case.sizes.family))
    members = {"inputs_of_text": embeddings(base, case, device)}
    family = type(f"Random{adapter.__name__}", (_RandomText, adapter), members)()
    return Loaded(family, base, device, digest=f"random:{case.sizes.name}")
