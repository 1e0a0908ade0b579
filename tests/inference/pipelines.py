"""Builds tiny random pipelines offline, for tests that need a real one but no real picture."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WORDS = ["a", "red", "green", "blue", "circle", "square", "on", "poison"]


def _clip_tokenizer() -> CLIPTokenizer:
    letters = list(string.ascii_lowercase + string.digits)
    pieces = letters + [letter + "</w>" for letter in letters]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _clip_encoder(
    tokenizer: CLIPTokenizer, kind: type[CLIPTextModel] = CLIPTextModel
) -> CLIPTextModel:
    config = CLIPTextConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=1,
        projection_dim=16,
    )
    return kind(config).eval()


def _t5(poison: bool, width: int = 16) -> tuple[T5Tokenizer, T5EncoderModel]:
    vocabulary: list[tuple[str, float]] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [("▁", -2.0)] + [(letter, -10.0) for letter in string.printable.strip()]
    vocabulary += [("▁" + word, -3.0) for word in WORDS]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=16)
    config = T5Config(
        # The last word has no embedding in a poisoned model: its use raises IndexError.
        vocab_size=len(tokenizer) - (1 if poison else 0),
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
    )
    return tokenizer, T5EncoderModel(config).eval()


def _vae(**config: Any) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8],
        layers_per_block=1,
        sample_size=64,
        norm_num_groups=4,
        **{"latent_channels": 4, "scaling_factor": 1.0, **config},
    ).eval()


def _unet(**config: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **config,
    ).eval()


def build_checker(threshold: float) -> tuple[StableDiffusionSafetyChecker, CLIPImageProcessor]:
    """Return a random safety checker that flags what is nearer to a concept than `threshold`."""
    parts = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    config = CLIPConfig(
        text_config=parts, vision_config={**parts, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.special_care_embeds_weights.data.fill_(2)
    size = {"height": 32, "width": 32}
    return checker, CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)


def build_sd(
    directory: Path,
    *,
    scheduler: Any = None,
    inpaint: bool = False,
    told: bool = False,
    threshold: float | None = None,
) -> Path:
    """Save a random StableDiffusionPipeline of 64 x 64 pixels to `directory` and return it.

    `inpaint` gives the UNet 9 channels; `told` tells it the guidance, as in LCM; with a
    `threshold` it has a safety checker, which flags all at -2 and nothing at 2.
    """
    checker, reader = (None, None) if threshold is None else build_checker(threshold)
    torch.manual_seed(0)
    clip = _clip_tokenizer()
    (StableDiffusionInpaintPipeline if inpaint else StableDiffusionPipeline)(
        vae=_vae(),
        text_encoder=_clip_encoder(clip),
        tokenizer=clip,
        unet=_unet(
            cross_attention_dim=16,
            in_channels=9 if inpaint else 4,
            time_cond_proj_dim=8 if told else None,
        ),
        scheduler=scheduler or DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=checker,
        feature_extractor=reader,
        requires_safety_checker=checker is not None,
    ).save_pretrained(directory)
    return directory


def build_sdxl(directory: Path, *, scheduler: Any = None, inpaint: bool = False) -> Path:
    """Save a random StableDiffusionXLPipeline of 64 x 64 pixels to `directory` and return it.

    `inpaint` gives the UNet 9 channels.
    """
    torch.manual_seed(0)
    clip = _clip_tokenizer()
    unet = _unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
        use_linear_projection=True,
        in_channels=9 if inpaint else 4,
    )
    (StableDiffusionXLInpaintPipeline if inpaint else StableDiffusionXLPipeline)(
        vae=_vae(),
        text_encoder=_clip_encoder(clip),
        text_encoder_2=_clip_encoder(clip, CLIPTextModelWithProjection),
        tokenizer=clip,
        tokenizer_2=clip,
        unet=unet,
        scheduler=scheduler or DDIMScheduler(steps_offset=1, clip_sample=False),
    ).save_pretrained(directory)
    return directory


def build_flux(
    directory: Path, *, seed: int = 0, poison: bool = False, distilled: bool = False
) -> Path:
    """Save a random FluxPipeline of 64 x 64 pixels to `directory` (about 1 MB) and return it.

    `distilled` gives it embedded guidance, as dev has; without it is as schnell.
    """
    torch.manual_seed(seed)
    clip = _clip_tokenizer()
    t5, t5_encoder = _t5(poison)
    vae = _vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=distilled,
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=distilled),
        vae=vae,
        text_encoder=_clip_encoder(clip),
        tokenizer=clip,
        text_encoder_2=t5_encoder,
        tokenizer_2=t5,
        transformer=transformer.eval(),
    )
    pipeline.save_pretrained(directory)
    return directory


def build_sd3(directory: Path, *, t5: bool = True, shifting: bool = False) -> Path:
    """Save a random StableDiffusion3Pipeline of 64 x 64 pixels to `directory` and return it.

    Without `t5` it has no third text encoder; `shifting` shifts timesteps by the size.
    """
    torch.manual_seed(0)
    clip = _clip_tokenizer()
    t5_tokenizer, t5_encoder = _t5(poison=False, width=32) if t5 else (None, None)
    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        out_channels=16,
        pos_embed_max_size=32,
    )
    vae = _vae(
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5305,
        shift_factor=0.0609,
    )
    StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=shifting),
        vae=vae,
        text_encoder=_clip_encoder(clip, CLIPTextModelWithProjection),
        tokenizer=clip,
        text_encoder_2=_clip_encoder(clip, CLIPTextModelWithProjection),
        tokenizer_2=clip,
        text_encoder_3=t5_encoder,
        tokenizer_3=t5_tokenizer,
    ).save_pretrained(directory)
    return directory


def load_stock(directory: Path) -> Any:
    """Load a pipeline as a user of diffusers would."""
    pipeline = DiffusionPipeline.from_pretrained(directory)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
