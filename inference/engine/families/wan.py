"""Wan 2.1 and 2.2: clips from text and from a picture, and few-step models of them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Generator, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.errors import InvalidRequestError
from inference.engine.families.base import Family, middle
from inference.engine.families.clips import first_frame, latents_wanted
from inference.engine.families.streaming import can_stream, decode_frames, to_bytes
from inference.engine.request import IMAGE_TO_VIDEO, TEXT_TO_VIDEO, GenerationRequest, Video
from inference.engine.sample import Condition, Inputs, Sample

if TYPE_CHECKING:
    import torch

    from inference.engine.device import Device
    from inference.engine.loaded import Loaded
    from inference.engine.request import Media

MAX_TEXT_TOKENS = 512
DMD_TIMESTEPS = [1000, 757, 522]
"""What FastWan was distilled for (FastVideo's `dmd_denoising_steps`)."""

EXPERT = "transformer"
LOW_NOISE_EXPERT = "transformer_2"


class Wan(Family):
    """Weights tell what they are for: 16 input channels draw from text, 36 from a picture too,
    and a model with a timestep for each token (2.2 5B) does both.

    A scheduler whose configuration has `timesteps` is run at those, and at no other number.
    """

    pipelines: ClassVar = {
        TEXT_TO_VIDEO: "WanPipeline",
        IMAGE_TO_VIDEO: "WanImageToVideoPipeline",
    }
    aliases: ClassVar = {"WanDMDPipeline": "WanPipeline"}
    steps = 50
    guidance = 5.0
    frames = 81

    def read(self, directory: Path | None, device: Device) -> Any:
        """Give a model that its index calls a distilled one the sampler it was distilled for.

        That is: predict the clean clip, and add fresh noise for the next timestep.
        """
        pipeline = super().read(directory, device)
        assert directory is not None
        if '"WanDMDPipeline"' in (directory / "model_index.json").read_text():
            from diffusers import FlowMatchEulerDiscreteScheduler

            scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
            scheduler.register_to_config(timesteps=DMD_TIMESTEPS)
            pipeline.scheduler = scheduler
        return pipeline

    def tasks(self, pipeline: Any) -> list[str]:
        """Return what the weights can do."""
        if pipeline.config.expand_timesteps:
            return [TEXT_TO_VIDEO, IMAGE_TO_VIDEO]
        takes_picture = pipeline.transformer.config.in_channels > pipeline.vae.config.z_dim
        return [IMAGE_TO_VIDEO if takes_picture else TEXT_TO_VIDEO]

    def default_size(self, pipeline: Any) -> tuple[int, int]:
        """480p; the 5B model of 2.2 knows 720p only."""
        return (1280, 704) if pipeline.config.expand_timesteps else (832, 480)

    def size_multiple(self, pipeline: Any) -> int:
        """A latent patch."""
        return int(pipeline.vae_scale_factor_spatial * pipeline.transformer.config.patch_size[1])

    def size_like(self, pipeline: Any, size: tuple[int, int]) -> tuple[int, int]:
        """Keep the shape of the picture, at the number of pixels that the model knows."""
        width, height = self.default_size(pipeline)
        multiple = self.size_multiple(pipeline)
        scale = math.sqrt(width * height / (size[0] * size[1]))
        width, height = (max(1, round(side * scale / multiple)) * multiple for side in size)
        return width, height

    def frame_multiple(self, pipeline: Any) -> int:
        """One latent frame."""
        return int(pipeline.vae_scale_factor_temporal)

    def complete(self, loaded: Loaded, request: GenerationRequest) -> GenerationRequest:
        """Fill in what the weights were made for; a distilled model has its own steps."""
        if loaded.base.config.expand_timesteps:
            request = request.with_defaults({"num_frames": 121, "fps": 24})
        own = _own_timesteps(loaded.base.scheduler)
        if own is not None:
            request = request.with_defaults({"steps": len(own), "guidance": 1.0})
            if request.steps != len(own):
                raise InvalidRequestError(f"steps must be {len(own)}: this model is distilled")
        return super().complete(loaded, request)

    def window(self, loaded: Loaded, request: GenerationRequest) -> int:
        """Let a model with a short text window keep it."""
        return min(
            request.max_sequence_length or MAX_TEXT_TOKENS,
            int(loaded.base.tokenizer.model_max_length),
            MAX_TEXT_TOKENS,
        )

    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """States of UMT5 [1, window, 4096], zero beyond the text."""
        # That of pictures encodes alike, but cannot without a package that this one does without.
        states, _ = loaded.task("WanPipeline").encode_prompt(
            prompt=texts,
            do_classifier_free_guidance=False,
            max_sequence_length=window,
            device=loaded.device.device,
        )
        return [{"encoder_hidden_states": s} for s in states.to(loaded.denoiser.dtype).split(1)]

    def encode(self, loaded: Loaded, requests: list[GenerationRequest]) -> list[Condition]:
        """Besides, the picture as CLIP sees it [1, 257, 1280], where the model wants that."""
        conditions = super().encode(loaded, requests)
        if loaded.denoiser.config.image_dim is None:
            return conditions
        for request, condition in zip(requests, conditions, strict=True):
            assert request.image is not None
            pipeline = self.pipeline_of(loaded, request)
            seen = pipeline.encode_image(request.image.convert("RGB"), loaded.device.device)
            for branch in (condition.positive, condition.negative):
                if branch is not None:
                    branch["encoder_hidden_states_image"] = seen.to(loaded.denoiser.dtype)
        return conditions

    def prepare(self, sample: Sample) -> None:
        """Draw noise, and encode the picture as the beginning of the clip."""
        import torch

        loaded, request = sample.loaded, sample.request
        pipeline = self.pipeline_of(loaded, request)
        _set_timesteps(sample)
        size = latents_wanted(sample, loaded.vae.config.z_dim)
        mask = None
        if request.image is None:
            sample.latents = pipeline.prepare_latents(1, **size)
            if pipeline.config.expand_timesteps:
                mask = torch.ones_like(sample.latents)
        else:
            image = first_frame(sample, pipeline).to(torch.float32)
            sample.latents, given, *masks = pipeline.prepare_latents(image, 1, **size)
            sample.fixed["given"] = given
            if masks:
                sample.fixed["drawn"] = mask = masks[0]
        if mask is not None:
            sample.fixed["drawn_tokens"] = mask[0][0][:, ::2, ::2]
        across, down, along = reversed(loaded.denoiser.config.patch_size)
        _, _, frames, height, width = sample.latents.shape
        sample.tokens = (frames // along) * (height // down) * (width // across)
        if "generator" in inspect.signature(sample.scheduler.step).parameters:
            sample.fixed["step"] = {"generator": sample.generator}

    def phase(self, sample: Sample) -> Hashable:
        """Return the expert: one for high noise, and in 2.2 14B another for low noise."""
        return sample.fixed["experts"][min(sample.step, sample.steps - 1)]

    def inputs(self, sample: Sample) -> Inputs:
        """Latents [1, channels, frames, height, width] and the timestep, [1] or [1, tokens]."""
        dtype = sample.loaded.denoiser.dtype
        sample.shared = {"expert": self.phase(sample)}
        if "drawn_tokens" in sample.fixed:
            timestep = (sample.fixed["drawn_tokens"] * sample.time).flatten().unsqueeze(0)
            return {"hidden_states": self.filled(sample).to(dtype), "timestep": timestep}
        latents = sample.latents
        if "given" in sample.fixed:
            import torch

            latents = torch.cat([latents, sample.fixed["given"]], dim=1)
        return {"hidden_states": latents.to(dtype), "timestep": sample.time.expand(1)}

    def filled(self, sample: Sample) -> torch.Tensor:
        """Return the latents with the given picture in the place of the first one."""
        if "drawn" not in sample.fixed:
            return sample.latents
        drawn, given = sample.fixed["drawn"], sample.fixed["given"]
        latents: torch.Tensor = (1 - drawn) * given + drawn * sample.latents
        return latents

    def predict(self, loaded: Loaded, inputs: Inputs, shared: dict[str, Any]) -> torch.Tensor:
        """Run the expert that the samples of this pass are at."""
        arguments = dict(shared)
        expert = arguments.pop("expert", EXPERT)
        if expert == EXPERT:
            return super().predict(loaded, inputs, arguments)
        model = getattr(loaded.base, expert)
        prediction: torch.Tensor = model(**inputs, **arguments, return_dict=False)[0]
        return prediction

    def step_arguments(self, sample: Sample) -> dict[str, Any]:
        """The generator, for schedulers that draw noise."""
        arguments: dict[str, Any] = sample.fixed.get("step", {})
        return arguments

    def latent_picture(self, sample: Sample) -> torch.Tensor:
        """The latents with the given picture in."""
        return middle(self.filled(sample))

    def preview_frame(self, sample: Sample) -> torch.Tensor:
        """Decode the latent frame in the middle by itself."""
        vae, latents = sample.loaded.vae, self.filled(sample)
        at = latents.shape[2] // 2
        clip = vae.decode(self.unscaled(vae, latents[:, :, at : at + 1]), return_dict=False)[0]
        frame: torch.Tensor = clip[:, :, 0]
        return frame

    def decode(self, sample: Sample) -> Generator[None, None, Media]:
        """Decode a latent frame a slice, or all in one where the autoencoder works in tiles."""
        import numpy as np

        vae = sample.loaded.vae
        latents = self.unscaled(vae, self.filled(sample))
        frames = []
        yield
        if can_stream(vae):
            for pixels in decode_frames(vae, latents):
                frames.append(to_bytes(pixels))
                yield
        else:
            frames.append(to_bytes(vae.decode(latents, return_dict=False)[0]))
            yield
        assert sample.request.fps is not None
        return Video(frames=np.concatenate(frames), fps=sample.request.fps)

    def unscaled(self, vae: Any, latents: torch.Tensor) -> torch.Tensor:
        """Return latents as the autoencoder made them: the denoiser's have mean 0 and width 1."""
        import torch

        latents = latents.to(vae.dtype)
        shape = (1, vae.config.z_dim, 1, 1, 1)
        mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents)
        inverse = (1.0 / torch.tensor(vae.config.latents_std).view(shape)).to(latents)
        return latents / inverse + mean


def _own_timesteps(scheduler: Any) -> list[float] | None:
    """Return the timesteps that a distilled model must be run at, None where it has none."""
    own = scheduler.config.get("timesteps")
    return None if own is None else [float(timestep) for timestep in own]


def _set_timesteps(sample: Sample) -> None:
    """Set the timesteps, and the expert of each."""
    import numpy as np

    scheduler, base = sample.scheduler, sample.loaded.base
    device = sample.loaded.device.device
    own = _own_timesteps(scheduler)
    if own is None:
        scheduler.set_timesteps(sample.request.steps, device=device)
    else:
        # The scheduler shifts what it is given, and these are the timesteps after the shift.
        config = scheduler.config
        shift = config.get("flow_shift", config.get("shift", 1.0))
        noise = np.array(own) / config.num_train_timesteps
        sigmas = noise / (shift - (shift - 1) * noise)
        scheduler.set_timesteps(sigmas=sigmas, device=device)
    sample.timesteps = scheduler.timesteps
    scheduler.set_begin_index(0)
    ratio = base.config.boundary_ratio
    boundary = -1.0 if ratio is None else ratio * scheduler.config.num_train_timesteps
    sample.fixed["experts"] = [
        EXPERT if timestep >= boundary else LOW_NOISE_EXPERT
        for timestep in sample.timesteps.tolist()
    ]
