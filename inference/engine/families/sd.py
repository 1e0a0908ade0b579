"""Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.errors import InvalidRequestError
from inference.engine.families.still import StillFamily
from inference.engine.request import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE, GenerationRequest
from inference.engine.sample import Condition, Inputs, Sample

if TYPE_CHECKING:
    import torch

    from inference.engine.loaded import Loaded


class StableDiffusion(StillFamily):
    """Stable Diffusion 1.x and 2.x; UNets of 9 channels read the mask and only inpaint."""

    pipelines: ClassVar = {
        TEXT_TO_IMAGE: "StableDiffusionPipeline",
        IMAGE_TO_IMAGE: "StableDiffusionImg2ImgPipeline",
        INPAINT: "StableDiffusionInpaintPipeline",
    }
    strengths: ClassVar = {IMAGE_TO_IMAGE: 0.8, INPAINT: 1.0}
    steps = 30
    guidance = 7.5

    def complete(self, loaded: Loaded, request: GenerationRequest) -> GenerationRequest:
        """Besides, refuse what the UNet has no channels for."""
        request = super().complete(loaded, request)
        if request.task != INPAINT and reads_mask(loaded):
            raise InvalidRequestError("mask_image is required: this model redraws parts of images")
        return request

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

    def negative_text(self, loaded: Loaded, request: GenerationRequest) -> str | None:
        """A model that is told the guidance (LCM) has no negative branch."""
        if loaded.denoiser.config.time_cond_proj_dim is not None:
            return None
        return super().negative_text(loaded, request)

    def prepare(self, sample: Sample) -> None:
        """Draw noise, or mix it into the given picture, as the first step wants it."""
        pipeline, request = self.stock(sample), sample.request
        sample.scheduler.set_timesteps(request.steps, device=sample.loaded.device.device)
        sample.timesteps = sample.scheduler.timesteps
        first = self.cut_timesteps(sample, pipeline)
        dtype = sample.condition.positive["encoder_hidden_states"].dtype
        device = sample.loaded.device.device
        if request.task == INPAINT:
            self._prepare_inpaint(sample, pipeline, first)
        elif request.task == IMAGE_TO_IMAGE:
            sample.latents = pipeline.prepare_latents(
                self.picture(sample, pipeline), first, 1, 1, dtype, device, sample.generator
            )
        else:
            channels = sample.loaded.denoiser.config.in_channels
            size = (request.height, request.width)
            sample.latents = pipeline.prepare_latents(
                1, channels, *size, dtype, device, sample.generator
            )
        self.prepare_rest(sample, pipeline)

    def _prepare_inpaint(self, sample: Sample, pipeline: Any, first: torch.Tensor) -> None:
        """Keep the given picture's latents, or give the UNet what it reads of it."""
        loaded, request = sample.loaded, sample.request
        dtype = sample.condition.positive["encoder_hidden_states"].dtype
        device, size = loaded.device.device, (request.height, request.width)
        picture = self.picture(sample, pipeline)
        mask = self.mask(sample, pipeline)
        joined = reads_mask(loaded)
        sample.latents, *drawn = pipeline.prepare_latents(
            1,
            loaded.vae.config.latent_channels,
            *size,
            dtype,
            device,
            sample.generator,
            image=picture,
            timestep=first,
            is_strength_max=request.strength == 1,
            return_noise=True,
            return_image_latents=not joined,
        )
        # Encoding the rest of the picture draws from the generator, even if nothing reads it.
        mask, rest = pipeline.prepare_mask_latents(
            mask, picture * (mask < 0.5), 1, *size, dtype, device, sample.generator, False
        )
        if joined:
            import torch

            sample.fixed["joined"] = torch.cat([mask, rest], dim=1)
        else:
            noise, known = drawn
            sample.fixed.update(known=known, noise=noise, mask=mask)

    def prepare_rest(self, sample: Sample, pipeline: Any) -> None:
        """Set what does not depend on the task."""
        loaded = sample.loaded
        _, _, height, width = sample.latents.shape
        sample.tokens = int(height * width)
        sample.fixed["step"] = pipeline.prepare_extra_step_kwargs(sample.generator, 0.0)
        if loaded.denoiser.config.time_cond_proj_dim is not None:
            import torch

            sample.fixed["timestep_cond"] = pipeline.get_guidance_scale_embedding(
                torch.tensor([sample.condition.guidance - 1]),
                embedding_dim=loaded.denoiser.config.time_cond_proj_dim,
            ).to(sample.latents)

    def inputs(self, sample: Sample) -> Inputs:
        """Scaled latents [1, channels, height, width] and the timestep."""
        latents = sample.scheduler.scale_model_input(sample.latents, sample.time)
        if "joined" in sample.fixed:
            import torch

            latents = torch.cat([latents, sample.fixed["joined"]], dim=1)
        inputs = {"sample": latents, "timestep": sample.time.expand(1)}
        if "timestep_cond" in sample.fixed:
            inputs["timestep_cond"] = sample.fixed["timestep_cond"]
        return inputs

    def step_arguments(self, sample: Sample) -> dict[str, Any]:
        """The generator, for schedulers that draw noise, and no noise for DDIM."""
        arguments: dict[str, Any] = sample.fixed["step"]
        return arguments

    def decode_latents(self, sample: Sample) -> torch.Tensor:
        """Return pixels in -1 to 1, [1, 3, height, width]."""
        vae = sample.loaded.vae
        latents = unscaled(vae, sample.latents).to(vae.dtype)
        image: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return image


def reads_mask(loaded: Loaded) -> bool:
    """Whether the UNet takes the mask and the kept part of the picture as further channels."""
    return bool(loaded.denoiser.config.in_channels > loaded.vae.config.latent_channels)


def unscaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Return latents as the autoencoder knows them; some models of XL have a mean and a spread."""
    import torch

    mean = getattr(vae.config, "latents_mean", None)
    spread = getattr(vae.config, "latents_std", None)
    if mean is None or spread is None:
        return latents / vae.config.scaling_factor
    mean, spread = (torch.tensor(v).view(1, -1, 1, 1).to(latents) for v in (mean, spread))
    return latents * spread / vae.config.scaling_factor + mean


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL; few-step models of it are the same with another scheduler."""

    pipelines: ClassVar = {
        TEXT_TO_IMAGE: "StableDiffusionXLPipeline",
        IMAGE_TO_IMAGE: "StableDiffusionXLImg2ImgPipeline",
        INPAINT: "StableDiffusionXLInpaintPipeline",
    }
    strengths: ClassVar = {IMAGE_TO_IMAGE: 0.3, INPAINT: 0.9999}
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

    def prepare_rest(self, sample: Sample, pipeline: Any) -> None:
        """Besides, the model is told sizes and crop in pixels."""
        super().prepare_rest(sample, pipeline)
        if sample.request.task == TEXT_TO_IMAGE and hasattr(sample.scheduler, "set_begin_index"):
            sample.scheduler.set_begin_index(0)
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

    def decode_latents(self, sample: Sample) -> torch.Tensor:
        """In float16 the autoencoder of XL overflows: it is decoded in float32 then, as stock."""
        import torch

        vae = sample.loaded.vae
        if vae.dtype != torch.float16 or not vae.config.force_upcast:
            return super().decode_latents(sample)
        vae.to(torch.float32)
        try:
            latents = unscaled(vae, sample.latents.float())
            image: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        finally:
            vae.to(torch.float16)
        return image

    def predict(self, loaded: Loaded, inputs: Inputs, shared: dict[str, Any]) -> torch.Tensor:
        """The UNet takes pooled text and sizes as one argument."""
        inputs = dict(inputs)
        added = {name: inputs.pop(name) for name in ("text_embeds", "time_ids")}
        return super().predict(loaded, inputs, {**shared, "added_cond_kwargs": added})
