"""`python -m kernels explain` says what a saved model would get, and errs in one line."""

import json

import pytest

from kernels.__main__ import main

WAN = {
    "_class_name": "WanTransformer3DModel",
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 2,
    "ffn_dim": 64,
    "text_dim": 16,
    "freq_dim": 32,
    "cross_attn_norm": True,
    "rope_max_seq_len": 128,
}


@pytest.fixture
def wan(tmp_path):
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(WAN))
    return str(tmp_path)


def test_places_and_bytes_are_told(wan, capsys):
    assert main(["explain", wan]) == 0
    told = capsys.readouterr().out
    assert "gated residual: 6 places" in told
    assert "blocks.*.attn1.norm_q (2)" in told
    # 2 blocks: before cross-attention, after it, and before the next block or the end. A byte count
    # by hand: 4 tensors of 32,760 x 24 in 2 bytes, 6 times, are 37.7 MB.
    assert "gated_residual_norm [1, 32760, 24]: 6 calls, 0.04 GB" in told
    assert "blocks.*.ffn.net.*.proj (2)" in told
    assert "linear [1, 32760, 64]: 2 calls" in told
    assert "left: heads of 12 channels, kernels have 64 and 128: blocks.*.attn1" in told
    assert "counted, not measured" in told
    assert "norm and rotation of queries and keys: 4 places" in told
    assert "qk_norm_rope [1, 32760, 24]: 2 calls" in told


def test_at_exact_only_what_is_bit_exact_is_told(wan, capsys):
    assert main(["explain", wan, "--quality", "exact"]) == 0
    told = capsys.readouterr().out
    assert "gated_residual [1, 32760, 24]: 4 calls" in told
    assert "gated_residual_norm [" not in told
    assert "left: linear is not bit-exact: condition_embedder.text_embedder.linear_1" in told
    assert "left: attention is not bit-exact: blocks.*.attn1 (attention) (2)" in told


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "has no config.json of a transformer or unet"),
        ("{", "names no model that diffusers has"),
        ('{"_class_name": "NoSuchModel"}', "names no model that diffusers has"),
    ],
)
def test_what_is_no_model_is_refused_in_a_line(tmp_path, capsys, config, message):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert main(["explain", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def small(name, **config):
    return {"_class_name": name, "num_layers": 1, "attention_head_dim": 16, **config}


HEADS = {"num_attention_heads": 2, "joint_attention_dim": 16, "axes_dims_rope": [4, 6, 6]}
MODELS = {
    "flux": small("FluxTransformer2DModel", num_single_layers=1, **HEADS),
    "qwen": small("QwenImageTransformer2DModel", **HEADS),
    "sd3": small(
        "SD3Transformer2DModel",
        num_attention_heads=2,
        caption_projection_dim=32,
        joint_attention_dim=16,
        pooled_projection_dim=16,
    ),
    "ltx": small("LTXVideoTransformer3DModel", num_attention_heads=2, cross_attention_dim=32),
    "sd": {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": [8, 16],
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": 16,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    },
    "sdxl": {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": [8, 16],
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": 16,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
    },
}
NO_SILU = "left: a norm over channels with no SiLU behind it: down_blocks.*.attentions.*.norm"
FOUND = {
    "flux": ("gated_residual_norm [1, 4096, 32]", "qk_norm_rope [1, 4608, 32]"),
    "qwen": ("gated_residual_norm [1, 4096, 32]", "qk_norm_rope [1, 4096, 32]"),
    "sd3": ("gated_residual_norm [1, 4096, 32]",),
    "ltx": ("gated_residual [1, 6930, 32]", "each head has angles of its own"),
    "sd": ("gated_activation [1, 1024, 64]", "group_norm_silu [1, 16, 32, 32]", NO_SILU),
    "sdxl": ("gated_activation [1, 4096, 64]", "group_norm_silu [1, 16, 64, 64]", NO_SILU),
}


@pytest.mark.parametrize("family", MODELS)
def test_bytes_are_counted_for_every_family(family, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(MODELS[family]))
    assert main(["explain", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert all(part in told for part in FOUND[family]), told
    assert "saved per pass: -" not in told
    assert "not counted" not in told


def test_the_autoencoder_is_told_beside_the_denoiser(wan, tmp_path, capsys):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLWan"}))
    assert main(["explain", wan]) == 0
    told = capsys.readouterr().out
    assert "AutoencoderKLWan in bfloat16 at quality high" in told
    assert "norm over channels and SiLU: 50 places" in told
    # Steps of 2, 4 and 2 bytes and back, each of the whole video: 40 bytes for 4 that are needed,
    # by hand for 96 x 4 x 480 x 832 elements, 140 times: 85.9 GB for 858.8 GB and the norms.
    assert "rms_norm_silu [1, 96, 4, 480, 832]: 140 calls, 85.88 GB for 862.36 GB" in told
    assert told.count("saved per pass") == 2


SMALL = {"block_out_channels": [8, 16], "norm_num_groups": 4}
DECODERS = {
    "AutoencoderKL": (
        SMALL
        | {
            "down_block_types": ["DownEncoderBlock2D"] * 2,
            "up_block_types": ["UpDecoderBlock2D"] * 2,
        },
        "group_norm_silu [1, 16, 256, 256]: 1 calls",
    ),
    "AutoencoderKLQwenImage": ({"base_dim": 8}, "rms_norm_silu [1, 8, 1, 1024, 1024]: 7 calls"),
    "AutoencoderKLLTXVideo": ({}, "rms_norm_silu [1, 128, 161, 120, 176]: 9 calls"),
}


@pytest.mark.parametrize("name", DECODERS)
def test_bytes_are_counted_for_every_decoder(wan, tmp_path, capsys, name):
    config, found = DECODERS[name]
    (tmp_path / "vae").mkdir()
    path = tmp_path / "vae" / "config.json"
    path.write_text(json.dumps({"_class_name": name} | config))
    assert main(["explain", wan]) == 0
    told = capsys.readouterr().out
    assert found in told, told
    assert "saved per pass: -" not in told
    assert told.count("saved per pass") == 2


def test_a_rotation_is_counted_step_by_step():
    import torch

    from kernels.mount.traffic import moved_by

    x = torch.empty(8, 16, dtype=torch.bfloat16, device="meta")
    table = torch.empty(8, 16, device="meta")
    # The cast reads 2 and writes 4 bytes, the product reads 4 + 4 and writes 4; views move nothing.
    with torch.inference_mode():
        assert moved_by(lambda: x.view(16, 8).view(8, 16).float() * table) == (6 + 12) * 128
        assert moved_by(lambda: x.to(torch.bfloat16)[1:]) == 0


@pytest.mark.parametrize(
    "config",
    [
        {**WAN, "num_layers": "x"},
        [WAN],
        {"_class_name": 7},
        {"_class_name": "logging"},
        "no JSON",
    ],
    ids=str,
)
def test_a_config_that_builds_no_model_is_refused_in_a_line(config, tmp_path, capsys):
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / "config.json").write_text(text)
    assert main(["explain", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "config.json" in said.err
