"""Makes random LoRA files in the key formats of the usual trainers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


class Maker:
    """Draws factors; `strength` is the size of their entries, large enough to be seen."""

    def __init__(self, seed: int, rank: int, strength: float = 0.3) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.rank = rank
        self.strength = strength

    def draw(self, *shape: int) -> torch.Tensor:
        """Return random entries."""
        return torch.randn(shape, generator=self.generator) * self.strength

    def peft(self, path: str, outputs: int, inputs: int) -> Tensors:
        """PEFT, with the name of the part in front."""
        return {
            f"{path}.lora_A.weight": self.draw(self.rank, inputs),
            f"{path}.lora_B.weight": self.draw(outputs, self.rank),
        }

    def kohya(self, name: str, outputs: int, inputs: int, kernel: int = 0) -> Tensors:
        """kohya's sd-scripts; `kernel` for a convolution."""
        up, down = ((1, 1), (kernel, kernel)) if kernel else ((), ())
        return {
            f"{name}.lora_down.weight": self.draw(self.rank, inputs, *down),
            f"{name}.lora_up.weight": self.draw(outputs, self.rank, *up),
            f"{name}.alpha": torch.tensor(self.rank * 0.5),
        }

    def updown(self, name: str, outputs: int, inputs: int) -> Tensors:
        """Diffusers before PEFT, and xlabs."""
        return {
            f"{name}.down.weight": self.draw(self.rank, inputs),
            f"{name}.up.weight": self.draw(outputs, self.rank),
        }


def flux_peft(seed: int = 0, rank: int = 4) -> Tensors:
    """Attention, feed-forward and modulation of both kinds of block, and the embedder of time."""
    maker = Maker(seed, rank)
    double, single = "transformer.transformer_blocks.0", "transformer.single_transformer_blocks.0"
    return {
        **maker.peft(f"{double}.attn.to_q", 32, 32),
        **maker.peft(f"{double}.attn.add_k_proj", 32, 32),
        **maker.peft(f"{double}.ff.net.0.proj", 128, 32),
        **maker.peft(f"{double}.norm1.linear", 192, 32),
        **maker.peft(f"{single}.attn.to_v", 32, 32),
        **maker.peft(f"{single}.proj_out", 32, 160),
        **maker.peft("transformer.time_text_embed.timestep_embedder.linear_1", 32, 256),
        **maker.peft("transformer.context_embedder", 32, 16),
    }


def flux_kohya(seed: int = 0, rank: int = 4) -> Tensors:
    """sd-scripts' names for FLUX."""
    maker = Maker(seed, rank)
    double, single = "lora_unet_double_blocks_0", "lora_unet_single_blocks_0"
    return {
        **maker.kohya(f"{double}_img_attn_qkv", 96, 32),
        **maker.kohya(f"{double}_txt_mlp_0", 128, 32),
        **maker.kohya(f"{double}_img_mod_lin", 192, 32),
        **maker.kohya(f"{single}_linear2", 32, 160),
    }


def flux_xlabs(seed: int = 0, rank: int = 4) -> Tensors:
    """xlabs' names for FLUX."""
    maker = Maker(seed, rank)
    return {
        **maker.updown("double_blocks.0.processor.qkv_lora1", 96, 32),
        **maker.updown("double_blocks.0.processor.proj_lora2", 32, 32),
        **maker.updown("single_blocks.0.processor.proj_lora", 32, 160),
    }


SD_BLOCK = "down_blocks.1.attentions.0"


def sd_peft(seed: int = 0, rank: int = 4) -> Tensors:
    """PEFT for a UNet of 1.x: linear layers."""
    maker = Maker(seed, rank, 1.0)
    inner = f"unet.{SD_BLOCK}.transformer_blocks.0"
    return {
        **maker.peft(f"{inner}.attn1.to_q", 16, 16),
        **maker.peft(f"{inner}.attn2.to_k", 16, 16),
        **maker.peft(f"{inner}.attn2.to_out.0", 16, 16),
    }


def sd_kohya(seed: int = 0, rank: int = 4) -> Tensors:
    """sd-scripts for 1.x: linear layers and convolutions of 1 x 1 and 3 x 3, one of stride 2."""
    maker = Maker(seed, rank, 1.0)
    block = "lora_unet_down_blocks_1_attentions_0"
    return {
        **maker.kohya(f"{block}_proj_in", 16, 16, kernel=1),
        **maker.kohya(f"{block}_transformer_blocks_0_attn1_to_q", 16, 16),
        **maker.kohya(f"{block}_transformer_blocks_0_attn2_to_v", 16, 16),
        **maker.kohya(f"{block}_transformer_blocks_0_ff_net_0_proj", 128, 16),
        **maker.kohya("lora_unet_down_blocks_0_resnets_0_conv1", 8, 8, kernel=3),
        **maker.kohya("lora_unet_down_blocks_0_downsamplers_0_conv", 8, 8, kernel=3),
        **maker.kohya("lora_unet_down_blocks_0_resnets_0_time_emb_proj", 8, 32),
    }


def sd_old(seed: int = 0, rank: int = 4) -> Tensors:
    """Diffusers before PEFT."""
    maker = Maker(seed, rank, 1.0)
    inner = f"unet.{SD_BLOCK}.transformer_blocks.0"
    return {
        **maker.updown(f"{inner}.attn1.processor.to_q_lora", 16, 16),
        **maker.updown(f"{inner}.attn2.processor.to_out_lora", 16, 16),
    }


def sdxl_kohya(seed: int = 0, rank: int = 4) -> Tensors:
    """sd-scripts for XL, which counts blocks as the original code does."""
    maker = Maker(seed, rank, 1.0)
    inner = "lora_unet_input_blocks_3_1_transformer_blocks_0"
    return {
        **maker.kohya(f"{inner}_attn1_to_q", 16, 16),
        **maker.kohya(f"{inner}_attn2_to_k", 16, 32),
        **maker.kohya("lora_unet_input_blocks_3_1_proj_in", 16, 16),
    }


FORMATS = {
    "flux": {"peft": flux_peft, "kohya": flux_kohya, "xlabs": flux_xlabs},
    "sd": {"peft": sd_peft, "kohya": sd_kohya, "diffusers-old": sd_old},
    "sdxl": {"kohya": sdxl_kohya},
}


def save(path: Path, tensors: Tensors, config: dict[str, object] | None = None) -> Path:
    """Write a file; `config` is PEFT's, kept in the header as diffusers does."""
    header = {"format": "pt"}
    if config is not None:
        header["lora_adapter_metadata"] = json.dumps(config)
    # Converters give several modules one tensor, which safetensors does not save.
    save_file({k: v.clone() for k, v in tensors.items()}, path, metadata=header)
    return path


def sha256(path: Path) -> str:
    """Return the digest of a file as it is registered."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
