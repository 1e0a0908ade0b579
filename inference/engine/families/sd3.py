"""Stable Diffusion 3 and 3.5, with or without the T5 encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.families.still import StillFamily, pooled_rows
from inference.engine.request import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE, GenerationRequest
from inference.engine.sample import Inputs, Sample

if TYPE_CHECKING:
    import torch

    from inference.engine.loaded import Loaded

TEXT_TOKENS = 256
MAX_TEXT_TOKENS = 512


class StableDiffusion3(StillFamily):
    """Multimodal diffusion transformer over unpacked latents (arXiv 2403.03206)."""

    pipelines: ClassVar = {
        TEXT_TO_IMAGE: "StableDiffusion3Pipeline",
        IMAGE_TO_IMAGE: "StableDiffusion3Img2ImgPipeline",
        INPAINT: "StableDiffusion3InpaintPipeline",
    }
    strengths: ClassVar = {IMAGE_TO_IMAGE: 0.6, INPAINT: 0.6}
    steps = 28
    guidance = 7.0

    def default_size(self, pipeline: Any) -> tuple[int, int]:
        """The transformer's configuration keeps it, in latent pixels."""
        side = int(pipeline.transformer.config.sample_size) * int(pipeline.vae_scale_factor)
        return side, side

    def size_multiple(self, pipeline: Any) -> int:
        """The autoencoder's, times the transformer's patch."""
        return int(pipeline.vae_scale_factor) * int(pipeline.transformer.config.patch_size)

    def window(self, loaded: Loaded, request: GenerationRequest) -> int:
        """Tokens of T5; the CLIPs read 77 besides."""
        return min(request.max_sequence_length or TEXT_TOKENS, MAX_TEXT_TOKENS)

    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """States [1, 77 + window, 4096], those of an absent T5 zero, and pooled CLIPs [1, 2048]."""
        states, _, pooled, _ = loaded.base.encode_prompt(
            prompt=texts,
            prompt_2=None,
            prompt_3=None,
            device=loaded.device.device,
            do_classifier_free_guidance=False,
            max_sequence_length=window,
        )
        return pooled_rows(states, pooled)

    def prepare(self, sample: Sample) -> None:
        """Draw noise, or mix it into the given picture."""
        loaded, request = sample.loaded, sample.request
        pipeline, device = self.stock(sample), loaded.device.device
        states = sample.condition.positive["encoder_hidden_states"]
        self._set_timesteps(sample)
        first = self.cut_timesteps(sample, pipeline)
        channels, size = loaded.vae.config.latent_channels, (request.height, request.width)
        common = (states.dtype, device, sample.generator)
        if request.task == INPAINT:
            sample.latents, noise, known = pipeline.prepare_latents(
                1,
                channels,
                *size,
                *common,
                image=self.picture(sample, pipeline),
                timestep=first,
                is_strength_max=request.strength == 1,
                return_noise=True,
                return_image_latents=True,
            )
            mask = self._small_mask(sample, pipeline).to(known)
            sample.fixed.update(known=known, noise=noise, mask=mask)
        elif request.task == IMAGE_TO_IMAGE:
            picture = self.picture(sample, pipeline)
            sample.latents = pipeline.prepare_latents(picture, first, 1, 1, *common)
        else:
            sample.latents = pipeline.prepare_latents(1, channels, *size, *common)
        _, _, height, width = sample.latents.shape
        patch = loaded.denoiser.config.patch_size
        sample.tokens = int((height // patch) * (width // patch) + states.shape[1])

    def _set_timesteps(self, sample: Sample) -> None:
        from diffusers.pipelines.stable_diffusion_3 import pipeline_stable_diffusion_3 as stock

        request, config = sample.request, sample.scheduler.config
        assert request.width is not None
        assert request.height is not None
        shift = {}
        if config.get("use_dynamic_shifting"):
            side = self.size_multiple(sample.loaded.base)
            shift["mu"] = stock.calculate_shift(
                (request.height // side) * (request.width // side),
                config.get("base_image_seq_len", 256),
                config.get("max_image_seq_len", 4096),
                config.get("base_shift", 0.5),
                config.get("max_shift", 1.16),
            )
        sample.timesteps, _ = stock.retrieve_timesteps(
            sample.scheduler, request.steps, sample.loaded.device.device, **shift
        )

    def _small_mask(self, sample: Sample, pipeline: Any) -> torch.Tensor:
        """The mask in latent pixels, [1, 1, height, width]."""
        import torch

        mask = self.mask(sample, pipeline)
        size = tuple(side // pipeline.vae_scale_factor for side in mask.shape[2:])
        return torch.nn.functional.interpolate(mask, size=size)

    def inputs(self, sample: Sample) -> Inputs:
        """Latents [1, 16, height, width] and the timestep."""
        return {"hidden_states": sample.latents, "timestep": sample.time.expand(1)}

    def decode_latents(self, sample: Sample) -> torch.Tensor:
        """Return pixels in -1 to 1, [1, 3, height, width].

        The stock pipeline for inpainting forgets the shift, and its colours are a little off.
        """
        vae = sample.loaded.vae
        latents = sample.latents / vae.config.scaling_factor + vae.config.shift_factor
        image: torch.Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return image
