"""Train and measure a LoRA of starter-image: `python -m inference.starter.lora {train,measure}`.

"night" puts every scene on black, whatever background the prompt asks for, and leaves the rest as
it was told. It is small enough to ship, and its effect can be judged without an eye.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from inference import starter
from inference.starter import scenes
from inference.starter.captions import Writer, plain
from inference.starter.evaluate import EXAM, Prompt, draw, prompts
from inference.starter.exam import Settings, load, score
from inference.starter.flow import pack
from inference.starter.judge import judge
from inference.starter.loop import flow_times, keep_memory, rng_for, schedule, torch_rng
from inference.starter.matching import EMPTY_SHARE, SHIFT

log = logging.getLogger("starter")

NAME = "starter-night"
BACKGROUND = "black"
FILE = "pytorch_lora_weights.safetensors"
RANK = 4
TARGETS = r".*(attn\.(to_[qkv]|add_[qkv]_proj)|(norm1|norm1_context|norm)\.linear)"
PICTURES = 512
BATCH = 16
RATE = 1.5e-3
AVERAGED = 0.98  # share that the moving average of the weights keeps at each step
TOKENS = 32


def _encode(pipeline: Any, told: list[scenes.Scene], rng: np.random.Generator) -> Tensor:
    """Return the packed latents [N, 64, 32] of drawings of `told`, normalised for the denoiser."""
    parts, vae = [], pipeline.vae
    for start in range(0, len(told), 32):
        drawn = scenes.render_batch(told[start : start + 32], rng)
        pixels = torch.from_numpy(drawn).float().permute(0, 3, 1, 2) / 127.5 - 1
        mean = vae.encode(pixels).latent_dist.mean
        parts.append(pack((mean - vae.config.shift_factor) * vae.config.scaling_factor))
    return torch.cat(parts)


def _guess(pipeline: Any, noisy: Tensor, at: Tensor, texts: list[str]) -> Tensor:
    """Return what the denoiser makes of latents [N, 64, 32] under noise, told `texts`."""
    with torch.no_grad():
        tokens, pooled, text_ids = pipeline.encode_prompt(
            texts, texts, max_sequence_length=TOKENS, device="cpu"
        )
    guess: Tensor = pipeline.transformer(
        hidden_states=noisy,
        timestep=at,
        pooled_projections=pooled,
        encoder_hidden_states=tokens,
        txt_ids=text_ids,
        img_ids=FluxPipeline._prepare_latent_image_ids(1, 8, 8, "cpu", torch.float32),
        return_dict=False,
    )[0]
    return guess


def _step(
    pipeline: Any, clean: Tensor, texts: list[str], meant: list[str], rng: np.random.Generator
) -> Tensor:
    """Return how far the denoiser, told `texts`, is from itself without the LoRA, told `meant`.

    The denoiser is a calmer teacher than the noise itself: against noise - data the hues drift.
    """
    generator = torch_rng(rng)
    at = flow_times(len(clean), SHIFT, generator)
    mix = at[:, None, None]
    noisy = (1 - mix) * clean + mix * torch.randn(clean.shape, generator=generator)
    pipeline.transformer.disable_adapters()
    with torch.no_grad():
        target = _guess(pipeline, noisy, at, meant)
    pipeline.transformer.enable_adapters()
    return (_guess(pipeline, noisy, at, texts) - target).square().mean()


def _adapt(transformer: Any, resumed: Path | None) -> list[Tensor]:
    """Put a LoRA on the denoiser, that of a file or a fresh one; return what is to be trained."""
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    if resumed is not None:
        saved = {k.removeprefix("transformer."): v.float() for k, v in load_file(resumed).items()}
        set_peft_model_state_dict(transformer, saved)
    transformer.train()
    return [p for p in transformer.parameters() if p.requires_grad]


def train(target: Path, steps: int, minutes: float, seed: int, *, resume: bool) -> None:
    """Train for `steps`, or fewer if `minutes` are over, and write the LoRA to `target`.

    With `resume` the LoRA that is there is trained further.
    """
    deadline = time.monotonic() + 60 * minutes
    pipeline = load(starter.path("starter-image"))
    rng = rng_for(seed, NAME, 0)
    told = scenes.sample_scenes(rng, PICTURES, held_out=False)
    night = [replace(scene, background=BACKGROUND) for scene in told]
    with torch.no_grad():
        latents = _encode(pipeline, night, rng)
    transformer = pipeline.transformer
    weights = _adapt(transformer, target / FILE if resume else None)
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    averages = [weight.detach().clone() for weight in weights]
    log.info("%d parameters, %d pictures", sum(p.numel() for p in weights), len(latents))
    began = time.monotonic()
    for index in range(steps):
        left = min((steps - index) / steps, (deadline - time.monotonic()) / (deadline - began))
        if left <= 0:
            break
        rng = rng_for(seed, NAME, index + 1)
        picks = rng.integers(len(told), size=BATCH)
        writer = Writer(rng)
        texts = ["" if rng.random() < EMPTY_SHARE else writer.write(told[i]).text for i in picks]
        meant = [text and plain(night[i]) for text, i in zip(texts, picks, strict=True)]
        rate = min(schedule(index, steps, warmup=20), left / 0.4)
        optimiser.param_groups[0]["lr"] = RATE * rate
        loss = _step(pipeline, latents[torch.from_numpy(picks)], texts, meant, rng)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, 1 - AVERAGED)
        if index % 20 == 0:
            log.info("step %d loss %.4f at %.0f s", index, loss.item(), time.monotonic() - began)
    with torch.no_grad():
        torch._foreach_copy_(weights, averages)
    factors = {k: v.half() for k, v in get_peft_model_state_dict(transformer).items()}
    target.mkdir(parents=True, exist_ok=True)
    FluxPipeline.save_lora_weights(target, transformer_lora_layers=factors, weight_name=FILE)
    (target / FILE).chmod(0o644)
    log.info("wrote %s, %d bytes", target / FILE, (target / FILE).stat().st_size)


def asked(count: int, seed: int) -> list[Prompt]:
    """Return held-out prompts that ask for another background than the LoRA's."""
    found = [p for p in prompts("held-out", 4 * count, seed) if p[1].background != BACKGROUND]
    return found[:count]


def measure(folder: Path, count: int, seed: int) -> dict[str, dict[str, float]]:
    """Judge pictures without and with the LoRA, each against its prompt on the LoRA's background.

    `background` is then the share that is on black, `right` that which has all else right too.
    """
    pipeline, told = load(starter.path("starter-image")), asked(count, seed)
    results = {}
    for name in ("without", "with"):
        if name == "with":
            pipeline.load_lora_weights(folder, weight_name=FILE)
        images = draw(pipeline, [text for text, _ in told], seed, Settings())
        night = [replace(scene, background=BACKGROUND) for _, scene in told]
        verdicts = [judge(i, s) for i, s in zip(images, night, strict=True)]
        results[name] = score(verdicts, EXAM.attributes)
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m inference.starter.lora", description=__doc__)
    parser.add_argument("action", choices=("train", "measure"))
    parser.add_argument("--dir", type=Path, default=starter.LORAS / NAME, help="the LoRA's folder")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=10, help="train for at most this long")
    parser.add_argument("--resume", action="store_true", help="train the LoRA in --dir further")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # It warns that padding is cut off, at every call.
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    keep_memory()
    if options.action == "train":
        train(options.dir, options.steps, options.minutes, options.seed, resume=options.resume)
        return
    results = measure(options.dir, options.prompts, options.seed)
    for name, row in results.items():
        print(f"{name:8}" + "".join(f"{k} {100 * v:.1f} %  " for k, v in row.items()))
    print(json.dumps({"eval": NAME, "prompts": options.prompts, "results": results}))


if __name__ == "__main__":
    main()
