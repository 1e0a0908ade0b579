"""Builds tiny random pipelines of clips offline, in the shapes that published models have."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.inference.pipelines import WORDS

WAN = ("text", "distilled", "experts", "picture", "picture-experts", "both")
"""2.1 and FastWan; 2.2 A14B; 2.1 from a picture; 2.2 A14B from a picture; 2.2 TI2V 5B."""
CHANNELS = 4


def t5_tokenizer() -> T5Tokenizer:
    """A tokenizer of a few words, and of single characters besides."""
    vocabulary: list[tuple[str, float]] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [("▁", -2.0)] + [(letter, -10.0) for letter in string.printable.strip()]
    vocabulary += [("▁" + word, -3.0) for word in WORDS]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=16)


def wan_vae(*, residual: bool = False) -> AutoencoderKLWan:
    """An autoencoder of factor 4 in time and 8 in space (16 for that of the 5B model)."""
    torch.manual_seed(1)
    config: dict[str, Any] = {"latents_mean": [0.1, -0.2, 0.3, 0.0]}
    if residual:
        config |= {"is_residual": True, "patch_size": 2, "scale_factor_spatial": 16}
        config |= {"in_channels": 12, "out_channels": 12, "decoder_base_dim": 8}
    return AutoencoderKLWan(
        base_dim=8,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_std=[1.5, 0.8, 1.0, 2.0],
        **config,
    ).eval()


def _wan_transformer(seed: int, **config: Any) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        out_channels=CHANNELS,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
        **config,
    ).eval()


def _vision() -> dict[str, Any]:
    config = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    size = {"height": 32, "width": 32}
    return {
        "image_encoder": CLIPVisionModel(config).eval(),
        "image_processor": CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size),
    }


def build_wan(directory: Path, kind: str = "text", scheduler: str = "unipc") -> Path:
    """Save a random Wan pipeline of one of the kinds in WAN to `directory` and return it."""
    torch.manual_seed(0)
    tokenizer = t5_tokenizer()
    text = UMT5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "text_encoder": UMT5EncoderModel(text).eval(),
        "vae": wan_vae(residual=kind == "both"),
        "expand_timesteps": kind == "both",
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }
    if scheduler == "euler":
        parts["scheduler"] = FlowMatchEulerDiscreteScheduler(shift=3.0)
    config: dict[str, Any] = {"in_channels": CHANNELS}
    if kind.startswith("picture"):
        config["in_channels"] = 2 * CHANNELS + 4
    if kind == "picture":
        parts |= _vision()
        config |= {"image_dim": 8, "added_kv_proj_dim": 24}
    parts["transformer"] = _wan_transformer(2, **config)
    if kind.endswith("experts"):
        parts |= {"transformer_2": _wan_transformer(3, **config), "boundary_ratio": 0.7}
    cls = WanImageToVideoPipeline if kind.startswith("picture") else WanPipeline
    cls(**parts).save_pretrained(directory)
    if kind == "distilled":
        path = directory / "model_index.json"
        index = json.loads(path.read_text()) | {"_class_name": "WanDMDPipeline"}
        path.write_text(json.dumps(index))
    return directory


def _qwen_tokenizer() -> Qwen2Tokenizer:
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    vocabulary |= {"<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=2048)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokenizer


def build_qwen(directory: Path) -> Path:
    """Save a random QwenImagePipeline to `directory` and return it."""
    torch.manual_seed(0)
    tokenizer = _qwen_tokenizer()
    rope = {"type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": rope,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    config = Qwen2_5_VLConfig(text_config=text, vision_config={**vision, "out_hidden_size": 16})
    QwenImagePipeline(
        tokenizer=tokenizer,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=CHANNELS,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 0.8, 1.0, 2.0],
        ).eval(),
        transformer=QwenImageTransformer2DModel(
            in_channels=4 * CHANNELS,
            out_channels=CHANNELS,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02),
    ).save_pretrained(directory)
    return directory


def build_ltx(directory: Path, *, timestep_conditioning: bool = False) -> Path:
    """Save a random LTXPipeline of factor 8 in time and in space to `directory` and return it."""
    torch.manual_seed(0)
    tokenizer = t5_tokenizer()
    text = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=timestep_conditioning,
        patch_size=1,
        patch_size_t=1,
    )
    LTXPipeline(
        tokenizer=tokenizer,
        text_encoder=T5EncoderModel(text).eval(),
        vae=vae.eval(),
        transformer=LTXVideoTransformer3DModel(
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            num_layers=2,
            caption_channels=16,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1),
    ).save_pretrained(directory)
    return directory
