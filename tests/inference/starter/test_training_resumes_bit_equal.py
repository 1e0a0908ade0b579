"""A training cut in two must give the very weights of one that was not."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inference.starter.autoencoder import AutoencoderStage, DecoderStage
from inference.starter.flow import FlowStage, make_latents
from inference.starter.loop import Stage, run
from inference.starter.text import TextStage

CHANNELS = (8, 8, 8, 8)


def autoencoder() -> AutoencoderStage:
    return AutoencoderStage(seed=3, batch=4, channels=CHANNELS)


def text() -> TextStage:
    return TextStage(seed=3, batch=4, clip_width=16, t5_width=16)


def flow() -> FlowStage:
    latents = make_latents(autoencoder().model, 3, 8)
    return FlowStage(3, text(), latents, batch=4, heads=1)


def decoder() -> DecoderStage:
    return DecoderStage(3, autoencoder().model, batch=2)


def snap() -> DecoderStage:
    return DecoderStage(3, autoencoder().model, batch=2, guess=flow().guess)


def flat(state: object) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [tensor for part in parts for tensor in flat(part)]


@pytest.mark.parametrize("make", [autoencoder, text, flow, decoder, snap])
def test_resumed_training_is_bit_equal(make: Callable[[], Stage], tmp_path: Path) -> None:
    late = time.monotonic() + 600
    whole, first, second = make(), make(), make()
    assert run(whole, 4, tmp_path / "whole", late, resume=False)

    class Cut:
        """Stops the clock after two steps."""

        name = first.name
        state, load = first.state, first.load
        done = 0

        def step(self, index: int, total: int) -> float:
            self.done += 1
            return first.step(index, total)

    cut = Cut()
    assert not run(cut, 4, tmp_path / "cut", time.monotonic(), resume=False)
    assert cut.done == 0
    for index in range(2):
        cut.step(index, 4)
    torch.save(
        {"step": 2, "seconds": 1.0, "state": cut.state()},
        _folder(tmp_path / "cut") / f"{cut.name}.pt",
    )
    assert run(second, 4, tmp_path / "cut", late, resume=True)
    one, other = flat(whole.state()), flat(second.state())
    assert len(one) == len(other) > 4
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
