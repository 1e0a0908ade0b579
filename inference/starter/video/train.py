"""Train the video starter: `python -m inference.starter.video.train --minutes 60 --resume`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

from inference.starter.loop import session
from inference.starter.matching import SHIFT
from inference.starter.train import finish, options_of
from inference.starter.video.autoencoder import (
    AutoencoderStage,
    DecoderStage,
    PictureStage,
)
from inference.starter.video.flow import FlowStage, Latents, make_latents
from inference.starter.video.scenes import Clip
from inference.starter.video.text import TextStage

log = logging.getLogger("starter")


@dataclass(frozen=True)
class Plan:
    """How long each stage trains and how wide it is."""

    seed: int = 0
    picture_steps: int = 1200
    picture_batch: int = 16
    autoencoder_steps: int = 2000
    autoencoder_batch: int = 34
    text_steps: int = 600
    text_batch: int = 128
    latents: int = 4096
    flow_steps: int = 2400
    flow_batch: int = 32
    heads: int = 6
    layers: int = 6
    snap_steps: int = 450
    snap_batch: int = 4


def cached_latents(stage: AutoencoderStage, plan: Plan, folder: Path) -> Latents:
    """Latents of the training clips, from `folder` where they were made before."""
    path = folder / "latents.pt"
    if path.exists():
        saved = torch.load(path, weights_only=True)
        return Latents(**{**saved, "clips": [Clip(*attributes) for attributes in saved["clips"]]})
    latents = make_latents(stage.model, plan.seed, plan.latents)
    plain = [(c.background, c.colour, c.shape, c.motion) for c in latents.clips]
    torch.save({**vars(latents), "clips": plain}, path)
    log.info("latents %d, mean std %.3f", plan.latents, float(latents.std.mean()))
    return latents


def train(plan: Plan, folder: Path, minutes: float, *, resume: bool) -> WanPipeline | None:
    """Go on with the stages until done or out of time; the pipeline once flow training began."""
    go_on = session(folder, minutes, resume=resume)
    pictures = PictureStage(plan.seed, plan.picture_batch)
    if not go_on(pictures, plan.picture_steps):
        return None
    autoencoder = AutoencoderStage(plan.seed, plan.autoencoder_batch, pictures.model)
    if not go_on(autoencoder, plan.autoencoder_steps):
        return None
    text = TextStage(plan.seed, plan.text_batch)
    if not go_on(text, plan.text_steps):
        return None
    text.modules.eval()
    log.info("tokens of held-out wordings parsed wholly right: %.3f", text.accuracy())
    latents = cached_latents(autoencoder, plan, folder)
    flow = FlowStage(plan.seed, text, latents, plan.flow_batch, plan.heads, plan.layers)
    if go_on(flow, plan.flow_steps):
        snap = DecoderStage(plan.seed, autoencoder.model, flow.guess, plan.snap_batch)
        go_on(snap, plan.snap_steps)
    return assemble(autoencoder, text, flow, latents)


def assemble(
    autoencoder: AutoencoderStage, text: TextStage, flow: FlowStage, latents: Latents
) -> WanPipeline:
    """The stock Wan pipeline of the trained parts."""
    vae = autoencoder.model.eval()
    vae.register_to_config(latents_mean=latents.mean.tolist(), latents_std=latents.std.tolist())
    return WanPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae,
        text_encoder=text.encoder.eval(),
        tokenizer=text.tokenizer,
        transformer=flow.ema.eval(),
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m inference.starter.video.train", description=__doc__
    )
    options = options_of(parser, Path("var/starter-video"), Plan.flow_steps)
    plan = Plan(seed=options.seed, flow_steps=options.flow_steps)
    pipeline = train(plan, options.state, options.minutes, resume=options.resume)
    finish(pipeline, options, ("pictures", "autoencoder", "text", "flow", "snap"))


if __name__ == "__main__":
    main()
