"""Builds tiny random pipelines offline, for tests that need a real one but no real picture."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
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


def _clip_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
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
    return CLIPTextModel(config).eval()


def _t5(poison: bool) -> tuple[T5Tokenizer, T5EncoderModel]:
    vocabulary: list[tuple[str, float]] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [("▁", -2.0)] + [(letter, -10.0) for letter in string.printable.strip()]
    vocabulary += [("▁" + word, -3.0) for word in WORDS]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=16)
    config = T5Config(
        # The last word has no embedding in a poisoned model: its use raises IndexError.
        vocab_size=len(tokenizer) - (1 if poison else 0),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
    )
    return tokenizer, T5EncoderModel(config).eval()


def build_flux(directory: Path, *, seed: int = 0, poison: bool = False) -> Path:
    """Save a random FluxPipeline of 64 x 64 pixels to `directory` (about 1 MB) and return it."""
    torch.manual_seed(seed)
    clip = _clip_tokenizer()
    t5, t5_encoder = _t5(poison)
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8],
        layers_per_block=1,
        latent_channels=4,
        sample_size=64,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae.eval(),
        text_encoder=_clip_encoder(clip),
        tokenizer=clip,
        text_encoder_2=t5_encoder,
        tokenizer_2=t5,
        transformer=transformer.eval(),
    )
    pipeline.save_pretrained(directory)
    return directory


def load_stock(directory: Path) -> Any:
    """Load a FluxPipeline as a user of diffusers would."""
    pipeline = FluxPipeline.from_pretrained(directory)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
