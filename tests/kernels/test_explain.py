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
    # 2 blocks: before cross-attention, and before the next block or the end. A byte count by hand:
    # 4 tensors of 32,760 x 24 in 2 bytes, 4 times, are 25.2 MB.
    assert "gated_residual_norm [1, 32760, 24]: 4 calls, 0.03 GB" in told
    assert "counted, not measured" in told


def test_at_exact_only_what_is_bit_exact_is_told(wan, capsys):
    assert main(["explain", wan, "--quality", "exact"]) == 0
    told = capsys.readouterr().out
    assert "gated_residual [1, 32760, 24]: 4 calls" in told
    assert "gated_residual_norm [" not in told


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
