"""Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.families.base import Family
from inference.engine.request import TEXT_TO_IMAGE, GenerationRequest
from inference.engine.sample import Condition, Inputs, Sample

if TYPE_CHECKING:
    import torch

    from inference.engine.loaded import Loaded
    from inference.engine.request import Media


class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x."""

    pipelines: ClassVar = {TEXT_TO_IMAGE: "StableDiffusionPipeline"}
    steps = 30
    guidance = 7.5

    def default_size(self, pipeline: Any) -> tuple[int, int]:
        """The UNet's configuration keeps it, in latent pixels."""
        side = int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)
        return side, side

    def size_multiple(self, pipeline: Any) -> int:
        """The autoencoder's."""
        return int(pipeline.vae_scale_factor)

    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """States of CLIP, [1, 77, width]."""
        states, _ = loaded.base.encode_prompt(texts, loaded.device.device, 1, False)
        return [{"encoder_hidden_states": s} for s in states.split(1)]

    def prepare(self, sample: Sample) -> None:
        """Draw noise, scaled as the scheduler wants it."""
        loaded, request = sample.loaded, sample.request
        pipeline = self.pipeline_of(loaded, request)
        self.set_timesteps(sample)
        states = sample.condition.positive["encoder_hidden_states"]
        sample.latents = pipeline.prepare_latents(
            1,
            loaded.denoiser.config.in_channels,
            request.height,
            request.width,
            states.dtype,
            loaded.device.device,
            sample.generator,
        )
        self.prepare_rest(sample)

    def set_timesteps(self, sample: Sample) -> None:
        """Set the timesteps of the request."""
        sample.scheduler.set_timesteps(sample.request.steps, device=sample.loaded.device.device)
        sample.timesteps = sample.scheduler.timesteps

    def prepare_rest(self, sample: Sample) -> None:
        """Set what does not depend on the task."""
        loaded = sample.loaded
        _, _, height, width = sample.latents.shape
        sample.tokens = int(height * width)
        if "generator" in inspect.signature(sample.scheduler.step).parameters:
            sample.fixed["step"] = {"generator": sample.generator}
        if loaded.denoiser.config.time_cond_proj_dim is not None:
            import torch

            sample.fixed["timestep_cond"] = loaded.base.get_guidance_scale_embedding(
                torch.tensor([sample.condition.guidance - 1]),
                embedding_dim=loaded.denoiser.config.time_cond_proj_dim,
            ).to(sample.latents)

    def inputs(self, sample: Sample) -> Inputs:
        """Scaled latents [1, channels, height, width] and the timestep."""
        latents = sample.scheduler.scale_model_input(sample.latents, sample.time)
        inputs = {"sample": latents, "timestep": sample.time.expand(1)}
        if "timestep_cond" in sample.fixed:
            inputs["timestep_cond"] = sample.fixed["timestep_cond"]
        return inputs

    def step_arguments(self, sample: Sample) -> dict[str, Any]:
        """The generator, for schedulers that draw noise."""
        arguments: dict[str, Any] = sample.fixed.get("step", {})
        return arguments

    def decode(self, sample: Sample) -> Generator[None, None, Media]:
        """Decode in one slice."""
        loaded = sample.loaded
        yield
        image = self.decode_latents(loaded, sample.latents)
        yield
        media: Media = loaded.base.image_processor.postprocess(image, output_type="pil")[0]
        return media

    def decode_latents(self, loaded: Loaded, latents: torch.Tensor) -> torch.Tensor:
        """Return pixels in -1 to 1, [1, 3, height, width]."""
        scaled = (latents / loaded.vae.config.scaling_factor).to(loaded.vae.dtype)
        image: torch.Tensor = loaded.vae.decode(scaled, return_dict=False)[0]
        return image


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL; few-step models of it are the same with another scheduler."""

    pipelines: ClassVar = {TEXT_TO_IMAGE: "StableDiffusionXLPipeline"}
    guidance = 5.0

    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """States of both CLIPs [1, 77, 2048] and the pooled state of the second [1, 1280]."""
        states, _, pooled, _ = loaded.base.encode_prompt(
            texts, device=loaded.device.device, do_classifier_free_guidance=False
        )
        return [
            {"encoder_hidden_states": s, "text_embeds": p}
            for s, p in zip(states.split(1), pooled.split(1), strict=True)
        ]

    def encode(self, loaded: Loaded, requests: list[GenerationRequest]) -> list[Condition]:
        """Without a negative prompt the negative branch is zero, as the model was trained."""
        conditions = super().encode(loaded, requests)
        if loaded.base.config.force_zeros_for_empty_prompt:
            for request, condition in zip(requests, conditions, strict=True):
                if condition.negative is not None and not request.negative_prompt:
                    condition.negative = {
                        k: v.new_zeros(v.shape) for k, v in condition.positive.items()
                    }
        return conditions

    def prepare_rest(self, sample: Sample) -> None:
        """Besides, the model is told sizes and crop in pixels."""
        super().prepare_rest(sample)
        if hasattr(sample.scheduler, "set_begin_index") and sample.step == 0:
            sample.scheduler.set_begin_index(getattr(sample.scheduler, "begin_index", None) or 0)
        sample.fixed["time_ids"] = self.time_ids(sample)

    def time_ids(self, sample: Sample) -> torch.Tensor:
        """Original size, crop and target size, [1, 6]."""
        loaded = sample.loaded
        size = (sample.request.height, sample.request.width)
        ids: torch.Tensor = loaded.task(self.pipelines[TEXT_TO_IMAGE])._get_add_time_ids(
            size,
            (0, 0),
            size,
            dtype=sample.latents.dtype,
            text_encoder_projection_dim=loaded.base.text_encoder_2.config.projection_dim,
        )
        return ids.to(loaded.device.device)

    def inputs(self, sample: Sample) -> Inputs:
        """Besides, sizes and crop."""
        return {**super().inputs(sample), "time_ids": sample.fixed["time_ids"]}

    def predict(self, loaded: Loaded, inputs: Inputs, shared: dict[str, Any]) -> torch.Tensor:
        """The UNet takes pooled text and sizes as one argument."""
        inputs = dict(inputs)
        added = {name: inputs.pop(name) for name in ("text_embeds", "time_ids")}
        return super().predict(loaded, inputs, {**shared, "added_cond_kwargs": added})
