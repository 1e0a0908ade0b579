"""The published architectures as plain data, so that speed can be measured without weights.

A part is (class name, configuration). Where a key is absent the class's own default is the
published value. The sources are the config.json files of the named hub repositories.
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]
Part = tuple[str, Config]


def _kl(latent_channels: int, **more: Any) -> Part:
    """Return the autoencoder that Stable Diffusion introduced, with four levels (1:8)."""
    return "AutoencoderKL", {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": latent_channels,
        **more,
    }


def _kl16(scaling: float, shift: float) -> Part:
    plain = {"use_quant_conv": False, "use_post_quant_conv": False, "sample_size": 1024}
    return _kl(16, scaling_factor=scaling, shift_factor=shift, **plain)


WAN21_VAE: Part = ("AutoencoderKLWan", {})
WAN22_VAE: Part = (
    "AutoencoderKLWan",
    {
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_scales": [],
        "temperal_downsample": [False, True, True],
        "in_channels": 12,
        "out_channels": 12,
        "is_residual": True,
        "patch_size": 2,
        "scale_factor_spatial": 16,
        "scale_factor_temporal": 4,
        # The published statistics serve pictures, not speed; the neutral ones keep noise tame.
        "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
    },
)

# Text encoders. The vocabularies are those of the published tokenizers.
CLIP_L: Part = (
    "CLIPTextModel",
    {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
        "projection_dim": 768,
    },
)
CLIP_L_PROJECTED: Part = ("CLIPTextModelWithProjection", CLIP_L[1])
CLIP_H: Part = (
    "CLIPTextModel",
    {
        "vocab_size": 49408,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "projection_dim": 512,
    },
)
CLIP_BIG_G: Part = (
    "CLIPTextModelWithProjection",
    {
        "vocab_size": 49408,
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "hidden_act": "gelu",
        "projection_dim": 1280,
    },
)
_XXL: Config = {
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
T5_XXL: Part = ("T5EncoderModel", {**_XXL, "vocab_size": 32128})
UMT5_XXL: Part = ("UMT5EncoderModel", {**_XXL, "vocab_size": 256384})
QWEN25_VL_7B: Part = (
    "Qwen2_5_VLForConditionalGeneration",
    {
        "text_config": {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 128000,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [16, 24, 24],
                "rope_theta": 1000000.0,
            },
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        "tie_word_embeddings": False,
    },
)

# Denoisers.
SD15_UNET: Part = (
    "UNet2DConditionModel",
    {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64},
)
SD21_UNET: Part = (
    "UNet2DConditionModel",
    {
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
        "sample_size": 96,
    },
)
SDXL_UNET: Part = (
    "UNet2DConditionModel",
    {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": [5, 10, 20],
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "use_linear_projection": True,
        "sample_size": 128,
    },
)
SD35_MEDIUM: Part = (
    "SD3Transformer2DModel",
    {
        "sample_size": 128,
        "num_layers": 24,
        "num_attention_heads": 24,
        "attention_head_dim": 64,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 384,
        "dual_attention_layers": list(range(13)),
        "qk_norm": "rms_norm",
    },
)
QWEN_IMAGE: Part = ("QwenImageTransformer2DModel", {})
LTX_2B: Part = ("LTXVideoTransformer3DModel", {})
_FLOW = "FlowMatchEulerDiscreteScheduler"
FLUX_FLOW: Part = (_FLOW, {"shift": 3.0, "use_dynamic_shifting": True})
SCHNELL_FLOW: Part = (_FLOW, {"shift": 1.0})
SD3_FLOW: Part = (_FLOW, {"shift": 3.0})
QWEN_FLOW: Part = (
    _FLOW,
    {
        "use_dynamic_shifting": True,
        "base_shift": 0.5,
        "max_shift": 0.9,
        "max_image_seq_len": 8192,
        "shift_terminal": 0.02,
    },
)
LTX_FLOW: Part = (
    _FLOW,
    {
        "use_dynamic_shifting": True,
        "base_shift": 0.95,
        "max_shift": 2.05,
        "base_image_seq_len": 1024,
        "max_image_seq_len": 4096,
        "shift_terminal": 0.1,
    },
)


def euler(prediction: str = "epsilon") -> Part:
    """Return the Euler sampler with the noise schedule of Stable Diffusion."""
    return "EulerDiscreteScheduler", {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }


def unipc(shift: float) -> Part:
    """Return Wan's sampler at `shift`."""
    settings = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    return "UniPCMultistepScheduler", {**settings, "flow_shift": shift}


def flux(guidance: bool) -> Part:
    """Return FLUX.1 dev (with embedded guidance) or schnell (without)."""
    return "FluxTransformer2DModel", {"guidance_embeds": guidance}


def wan(heads: int, layers: int, ffn: int, channels: int = 16) -> Part:
    """Return a Wan text-to-video transformer; every head is 128 wide."""
    return "WanTransformer3DModel", {
        "num_attention_heads": heads,
        "attention_head_dim": 128,
        "num_layers": layers,
        "ffn_dim": ffn,
        "in_channels": channels,
        "out_channels": channels,
    }


SD_VAE = _kl(4, scaling_factor=0.18215, sample_size=512)
SD21_VAE = _kl(4, scaling_factor=0.18215, sample_size=768)
SDXL_VAE = _kl(4, scaling_factor=0.13025, sample_size=1024)
FLUX_VAE = _kl16(0.3611, 0.1159)
SD3_VAE = _kl16(1.5305, 0.0609)
QWEN_VAE: Part = ("AutoencoderKLQwenImage", {})
LTX_VAE: Part = ("AutoencoderKLLTXVideo", {})
