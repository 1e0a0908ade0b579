"""Qwen-Image: pictures from text, from pictures, and parts of pictures drawn anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from inference.engine.families.base import middle
from inference.engine.families.still import StillFamily
from inference.engine.request import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE, GenerationRequest
from inference.engine.sample import NEGATIVE, POSITIVE, Condition, Inputs, Sample

if TYPE_CHECKING:
    import torch

    from inference.engine.loaded import Loaded

TEXT_TOKENS = 512
MAX_TEXT_TOKENS = 1024
TEXT_MULTIPLE = 16
"""Texts are padded to a multiple of this many tokens, so that those of like length can share."""


class QwenImage(StillFamily):
    """`guidance` is the scale of true classifier-free guidance; at 1 or less there is none."""

    pipelines: ClassVar = {
        TEXT_TO_IMAGE: "QwenImagePipeline",
        IMAGE_TO_IMAGE: "QwenImageImg2ImgPipeline",
        INPAINT: "QwenImageInpaintPipeline",
    }
    strengths: ClassVar = {IMAGE_TO_IMAGE: 0.6, INPAINT: 0.6}
    steps = 50
    guidance = 4.0

    def default_size(self, pipeline: Any) -> tuple[int, int]:
        """The pipeline keeps it, in latent pixels."""
        side = int(pipeline.default_sample_size) * int(pipeline.vae_scale_factor)
        return side, side

    def size_multiple(self, pipeline: Any) -> int:
        """Latents are packed in 2x2 patches."""
        return int(pipeline.vae_scale_factor) * 2

    def window(self, loaded: Loaded, request: GenerationRequest) -> int:
        """Tokens of the prompt, without those of the instruction that it is put into."""
        return min(request.max_sequence_length or TEXT_TOKENS, MAX_TEXT_TOKENS)

    def negative_text(self, loaded: Loaded, request: GenerationRequest) -> str | None:
        """Without a negative prompt it is a space, as the model's makers do it."""
        text = super().negative_text(loaded, request)
        return " " if text == "" else text

    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """States of Qwen2.5-VL, [1, tokens, 3584], each of its text's own length."""
        states, mask = loaded.base.encode_prompt(
            texts, loaded.device.device, max_sequence_length=window
        )
        lengths = [states.shape[1]] * len(texts) if mask is None else mask.sum(dim=1).tolist()
        return [
            {"encoder_hidden_states": s[:, : int(length)]}
            for s, length in zip(states.split(1), lengths, strict=True)
        ]

    def encode(self, loaded: Loaded, requests: list[GenerationRequest]) -> list[Condition]:
        """Pad the texts of a request to one length; a mask tells the model what is padding."""
        conditions = super().encode(loaded, requests)
        for condition in conditions:
            branches = [b for b in (condition.positive, condition.negative) if b is not None]
            longest = max(branch["encoder_hidden_states"].shape[1] for branch in branches)
            length = -(-longest // TEXT_MULTIPLE) * TEXT_MULTIPLE
            for branch in branches:
                branch.update(_padded(branch["encoder_hidden_states"], length))
        return conditions

    def prepare(self, sample: Sample) -> None:
        """Draw noise, or mix it into the given picture, at timesteps shifted by its size."""
        loaded, request = sample.loaded, sample.request
        pipeline, device = self.stock(sample), loaded.device.device
        states = sample.condition.positive["encoder_hidden_states"]
        channels = loaded.denoiser.config.in_channels // 4
        height, width = self._set_timesteps(sample)
        first = self.cut_timesteps(sample, pipeline)
        size = (request.height, request.width)
        common = (1, channels, *size, states.dtype, device, sample.generator)
        if request.task == TEXT_TO_IMAGE:
            sample.scheduler.set_begin_index(0)
            sample.latents = pipeline.prepare_latents(*common)
        else:
            picture = self.picture(sample, pipeline)
            prepared = pipeline.prepare_latents(picture, first, *common)
            if request.task == INPAINT:
                sample.latents, noise, known = prepared
                mask = self.packed_mask(sample, pipeline).to(known)
                sample.fixed.update(known=known, noise=noise, mask=mask)
            else:
                sample.latents = prepared
        sample.tokens = int(sample.latents.shape[1] + states.shape[1])
        sample.shared = {"img_shapes": [[(1, height, width)]]}

    def _set_timesteps(self, sample: Sample) -> tuple[int, int]:
        """Set the timesteps and return the size of the picture in patches, height first."""
        import numpy as np
        from diffusers.pipelines.qwenimage import pipeline_qwenimage as stock

        request, config = sample.request, sample.scheduler.config
        assert request.steps is not None
        assert request.width is not None
        assert request.height is not None
        side = self.size_multiple(sample.loaded.base)
        height, width = request.height // side, request.width // side
        mu = stock.calculate_shift(
            height * width,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sample.timesteps, _ = stock.retrieve_timesteps(
            sample.scheduler,
            request.steps,
            sample.loaded.device.device,
            sigmas=np.linspace(1.0, 1 / request.steps, request.steps),
            mu=mu,
        )
        return height, width

    def inputs(self, sample: Sample) -> Inputs:
        """Packed latents [1, tokens, 64] and the timestep in 0 to 1."""
        latents = sample.latents
        timestep = sample.time.expand(1).to(latents.dtype) / 1000
        return {"hidden_states": latents, "timestep": timestep}

    def guide(self, sample: Sample, predictions: Inputs) -> torch.Tensor:
        """Keep the length of the positive branch's prediction at each token."""
        combined = super().guide(sample, predictions)
        if NEGATIVE not in predictions:
            return combined
        length = predictions[POSITIVE].norm(dim=-1, keepdim=True)
        return combined * (length / combined.norm(dim=-1, keepdim=True))

    def latent_picture(self, sample: Sample) -> torch.Tensor:
        """Unpack the latents."""
        request, pipeline = sample.request, sample.loaded.base
        return middle(
            pipeline._unpack_latents(
                sample.latents, request.height, request.width, pipeline.vae_scale_factor
            )
        )

    def decode_latents(self, sample: Sample) -> torch.Tensor:
        """Unpack the latents and return pixels in -1 to 1, [1, 3, height, width]."""
        import torch

        request, pipeline, vae = sample.request, sample.loaded.base, sample.loaded.vae
        latents = pipeline._unpack_latents(
            sample.latents, request.height, request.width, pipeline.vae_scale_factor
        ).to(vae.dtype)
        shape = (1, vae.config.z_dim, 1, 1, 1)
        mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents)
        inverse = (1.0 / torch.tensor(vae.config.latents_std).view(shape)).to(latents)
        clip = vae.decode(latents / inverse + mean, return_dict=False)[0]
        image: torch.Tensor = clip[:, :, 0]
        return image


def _padded(states: torch.Tensor, length: int) -> Inputs:
    """Return states padded with zeros to `length` tokens, and true in the mask for the rest."""
    import torch

    tokens = states.shape[1]
    mask = torch.arange(length, device=states.device).unsqueeze(0) < tokens
    padding = (0, 0, 0, length - tokens)
    padded = torch.nn.functional.pad(states, padding)
    return {"encoder_hidden_states": padded, "encoder_hidden_states_mask": mask}
