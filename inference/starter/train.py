"""Train the starter model: `python -m inference.starter.train --minutes 60 --resume`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxPipeline

from inference.starter.autoencoder import AutoencoderStage, DecoderStage
from inference.starter.flow import FlowStage, Latents, make_latents
from inference.starter.loop import keep_memory, seconds_spent, session
from inference.starter.matching import SHIFT
from inference.starter.scenes import Scene
from inference.starter.text import TextStage

log = logging.getLogger("starter")


@dataclass(frozen=True)
class Plan:
    """How long each stage trains and how wide it is; the default is the shipped model."""

    seed: int = 0
    autoencoder_steps: int = 1200
    autoencoder_batch: int = 24
    channels: tuple[int, ...] = (16, 32, 64, 64)
    text_steps: int = 800
    text_batch: int = 128
    latents: int = 16384
    flow_steps: int = 3600
    flow_batch: int = 64
    heads: int = 4
    decoder_steps: int = 600
    decoder_batch: int = 8
    snap_steps: int = 600


def cached_latents(stage: AutoencoderStage, plan: Plan, folder: Path) -> Latents:
    """Latents of the training pictures, from `folder` where they were made before."""
    path = folder / "latents.pt"
    if path.exists():
        saved = torch.load(path, weights_only=True)
        told = [Scene(b, tuple(map(tuple, o)), r) for b, o, r in saved["scenes"]]
        return Latents(saved["packed"], told, saved["shift"], saved["scale"])
    latents = make_latents(stage.model, plan.seed, plan.latents)
    plain = [(s.background, s.objects, s.relation) for s in latents.scenes]
    torch.save({**vars(latents), "scenes": plain}, path)
    log.info("latents %d, shift %.4f, scale %.4f", plan.latents, latents.shift, latents.scale)
    return latents


def train(plan: Plan, folder: Path, minutes: float, *, resume: bool) -> FluxPipeline | None:
    """Go on with the stages until done or out of time; the pipeline once flow training began."""
    go_on = session(folder, minutes, resume=resume)
    autoencoder = AutoencoderStage(plan.seed, plan.autoencoder_batch, plan.channels)
    if not go_on(autoencoder, plan.autoencoder_steps):
        return None
    text = TextStage(plan.seed, plan.text_batch)
    if not go_on(text, plan.text_steps):
        return None
    text.modules.eval()
    log.info("held-out wordings parsed wholly right: CLIP %.3f, T5 %.3f", *text.accuracy())
    latents = cached_latents(autoencoder, plan, folder)
    decoder = DecoderStage(plan.seed, autoencoder.model, plan.decoder_batch)
    if not go_on(decoder, plan.decoder_steps):
        return None
    flow = FlowStage(plan.seed, text, latents, plan.flow_batch, plan.heads)
    if go_on(flow, plan.flow_steps):
        snap = DecoderStage(plan.seed, autoencoder.model, plan.decoder_batch, flow.guess)
        go_on(snap, plan.snap_steps)
    return assemble(autoencoder, text, flow, latents)


def assemble(
    autoencoder: AutoencoderStage, text: TextStage, flow: FlowStage, latents: Latents
) -> FluxPipeline:
    """The stock Flux pipeline of the trained parts."""
    vae = autoencoder.model.eval().to(memory_format=torch.contiguous_format)
    vae.register_to_config(scaling_factor=latents.scale, shift_factor=latents.shift)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae,
        text_encoder=text.clip.eval(),
        tokenizer=text.clip_tokenizer,
        text_encoder_2=text.t5.eval(),
        tokenizer_2=text.t5_tokenizer,
        transformer=flow.ema.eval(),
    )


def export(pipeline: DiffusionPipeline, target: Path) -> None:
    """Write the pipeline directory: transformer and VAE as fp16, text encoders as fp32.

    diffusers loads its models as fp32 whatever the file holds, transformers keeps the file's
    type; so a plain `from_pretrained(target)` gives fp32 throughout.
    """
    pipeline.transformer.half()
    pipeline.vae.half()
    pipeline.save_pretrained(target)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def options_of(parser: argparse.ArgumentParser, state: Path, flow_steps: int) -> argparse.Namespace:
    """Parse the options that every starter model's training takes; set logs and threads up."""
    parser.add_argument(
        "--minutes", type=float, default=60, help="stop after this long (default 60)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the state in --state")
    parser.add_argument("--state", type=Path, default=state, help="training state")
    parser.add_argument("--out", type=Path, help="write the pipeline directory here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flow-steps", type=int, default=flow_steps)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    keep_memory()
    return options


def finish(
    pipeline: DiffusionPipeline | None, options: argparse.Namespace, stages: tuple[str, ...]
) -> None:
    """Log the time that the stages took; write the pipeline where --out says."""
    spent = {name: round(seconds_spent(options.state, name)) for name in stages}
    log.info("wall seconds so far: %s", spent)
    if options.out and pipeline is not None:
        export(pipeline, options.out)
        log.info("wrote %s", options.out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m inference.starter.train", description=__doc__)
    options = options_of(parser, Path("var/starter"), Plan.flow_steps)
    plan = Plan(seed=options.seed, flow_steps=options.flow_steps)
    pipeline = train(plan, options.state, options.minutes, resume=options.resume)
    finish(pipeline, options, ("autoencoder", "text", "decoder", "flow", "snap"))


if __name__ == "__main__":
    main()
