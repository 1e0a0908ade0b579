"""LTX-Video: clips from text and from a picture."""

from __future__ import annotations

from collections.abc import Generator, Hashable
from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.families.base import Family, middle
from inference.engine.families.clips import first_frame, latents_wanted
from inference.engine.families.streaming import to_bytes
from inference.engine.request import IMAGE_TO_VIDEO, TEXT_TO_VIDEO, GenerationRequest, Video
from inference.engine.sample import Inputs, Sample

if TYPE_CHECKING:
    import torch

    from inference.engine.loaded import Loaded
    from inference.engine.request import Media

TEXT_TOKENS = 128
MAX_TEXT_TOKENS = 256


class LTX(Family):
    """The model is told the frame rate, so that clips of another rate are other clips.

    `decode_timestep` and `decode_noise` are for autoencoders that take a last denoising step:
    what the model's makers advise, where the stock pipeline's defaults take none.
    """

    pipelines: ClassVar = {
        TEXT_TO_VIDEO: "LTXPipeline",
        IMAGE_TO_VIDEO: "LTXImageToVideoPipeline",
    }
    steps = 50
    guidance = 3.0
    frames = 161
    fps = 25
    decode_timestep: ClassVar = 0.05
    decode_noise: ClassVar = 0.025

    def default_size(self, pipeline: Any) -> tuple[int, int]:
        """The stock pipeline's."""
        return 704, 512

    def size_multiple(self, pipeline: Any) -> int:
        """A latent patch."""
        patch = pipeline.transformer_spatial_patch_size
        return int(pipeline.vae_spatial_compression_ratio * patch)

    def frame_multiple(self, pipeline: Any) -> int:
        """One latent frame."""
        return int(pipeline.vae_temporal_compression_ratio)

    def window(self, loaded: Loaded, request: GenerationRequest) -> int:
        """Let a model with a short text window keep it."""
        return min(
            request.max_sequence_length or TEXT_TOKENS,
            int(loaded.base.tokenizer_max_length),
            MAX_TEXT_TOKENS,
        )

    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """States of T5 [1, window, 4096], and which of them are text."""
        states, mask, _, _ = loaded.base.encode_prompt(
            texts,
            do_classifier_free_guidance=False,
            max_sequence_length=window,
            device=loaded.device.device,
        )
        return [
            {"encoder_hidden_states": s, "encoder_attention_mask": m}
            for s, m in zip(states.split(1), mask.split(1), strict=True)
        ]

    def prepare(self, sample: Sample) -> None:
        """Draw noise, after the given picture as the first latent frame."""
        loaded, request = sample.loaded, sample.request
        pipeline = self.pipeline_of(loaded, request)
        frames, height, width = self.latent_size(sample)
        self._set_timesteps(sample, frames * height * width)
        size = latents_wanted(sample, loaded.denoiser.config.in_channels)
        if request.image is None:
            sample.latents = pipeline.prepare_latents(1, **size)
        else:
            states = sample.condition.positive["encoder_hidden_states"]
            image = first_frame(sample, pipeline).to(states.dtype)
            sample.latents, sample.fixed["given"] = pipeline.prepare_latents(image, 1, **size)
        sample.tokens = int(sample.latents.shape[1])
        assert request.fps is not None
        across = pipeline.vae_spatial_compression_ratio
        along = pipeline.vae_temporal_compression_ratio
        sample.shared = {
            "num_frames": frames,
            "height": height,
            "width": width,
            "rope_interpolation_scale": (along / request.fps, across, across),
        }

    def latent_size(self, sample: Sample) -> tuple[int, int, int]:
        """Return frames, height and width of the latents."""
        request, pipeline = sample.request, sample.loaded.base
        assert request.num_frames is not None
        assert request.height is not None
        assert request.width is not None
        across = int(pipeline.vae_spatial_compression_ratio)
        along = int(pipeline.vae_temporal_compression_ratio)
        return (
            (request.num_frames - 1) // along + 1,
            request.height // across,
            request.width // across,
        )

    def _set_timesteps(self, sample: Sample, tokens: int) -> None:
        import numpy as np
        from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift, retrieve_timesteps

        steps, config = sample.request.steps, sample.scheduler.config
        assert steps is not None
        mu = calculate_shift(
            tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sample.timesteps, _ = retrieve_timesteps(
            sample.scheduler,
            steps,
            sample.loaded.device.device,
            sigmas=np.linspace(1.0, 1 / steps, steps),
            mu=mu,
        )
        sample.scheduler.set_begin_index(0)

    def shared_key(self, sample: Sample) -> Hashable:
        """Besides, the frame rate."""
        return (super().shared_key(sample), sample.request.fps)

    def inputs(self, sample: Sample) -> Inputs:
        """Packed latents [1, tokens, 128] and the timestep, [1] or [1, tokens]."""
        states = sample.condition.positive["encoder_hidden_states"]
        timestep = sample.time.expand(1)
        if "given" in sample.fixed:
            timestep = timestep.unsqueeze(-1) * (1 - sample.fixed["given"])
        return {"hidden_states": sample.latents.to(states.dtype), "timestep": timestep}

    def guide(self, sample: Sample, predictions: Inputs) -> torch.Tensor:
        """Combine the branches in float32."""
        return super().guide(sample, {name: p.float() for name, p in predictions.items()})

    def advance(self, sample: Sample, predictions: Inputs) -> None:
        """Leave the latent frame of a given picture as it is."""
        if "given" not in sample.fixed:
            super().advance(sample, predictions)
            return
        import torch

        # Latents are packed frame by frame.
        first = sample.latents.shape[1] // self.latent_size(sample)[0]
        kept, latents = sample.latents[:, :first], sample.latents[:, first:]
        predicted = self.guide(sample, predictions)[:, first:]
        latents = sample.scheduler.step(predicted, sample.time, latents, return_dict=False)[0]
        sample.latents = torch.cat([kept, latents.to(kept.dtype)], dim=1)
        sample.step += 1

    def latent_picture(self, sample: Sample) -> torch.Tensor:
        """Unpack the latents."""
        pipeline = sample.loaded.base
        return middle(
            pipeline._unpack_latents(
                sample.latents,
                *self.latent_size(sample),
                pipeline.transformer_spatial_patch_size,
                pipeline.transformer_temporal_patch_size,
            )
        )

    def decode(self, sample: Sample) -> Generator[None, None, Media]:
        """Unpack and decode in one slice."""
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        pipeline, vae = sample.loaded.base, sample.loaded.vae
        yield
        latents = pipeline._unpack_latents(
            sample.latents,
            *self.latent_size(sample),
            pipeline.transformer_spatial_patch_size,
            pipeline.transformer_temporal_patch_size,
        )
        latents = pipeline._denormalize_latents(
            latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        ).to(vae.dtype)
        timestep = None
        if vae.config.timestep_conditioning:
            noise = randn_tensor(
                latents.shape, sample.generator, device=latents.device, dtype=latents.dtype
            )
            latents = (1 - self.decode_noise) * latents + self.decode_noise * noise
            timestep = torch.tensor([self.decode_timestep]).to(latents)
        frames = to_bytes(vae.decode(latents, timestep, return_dict=False)[0])
        yield
        assert sample.request.fps is not None
        return Video(frames=frames, fps=sample.request.fps)
