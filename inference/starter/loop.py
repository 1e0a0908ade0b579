"""A resumable training loop: every step depends only on (seed, step) and the saved state."""

from __future__ import annotations

import ctypes
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

log = logging.getLogger("starter")


def keep_memory() -> None:
    """Have glibc keep freed memory instead of giving it back to the kernel after every tensor.

    On small virtual machines page faults are dear: a step took 5 s without this and 0.6 s with.
    Does nothing where the C library has no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((-8, 1), (-3, 2**31 - 1), (-1, 2**31 - 1), (-2, 2**28)):
            mallopt(option, value)  # ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD


class Stage(Protocol):
    """One thing to train, a step at a time."""

    name: str

    def step(self, index: int, total: int) -> float:
        """Do step `index` of `total`; return the loss."""

    def state(self) -> dict[str, Any]:
        """Everything needed to go on."""

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""


class Trained:
    """What a stage saves and takes back: the weights of `parts`, and the state of `optimisers`."""

    parts: dict[str, torch.nn.Module]
    optimisers: list[torch.optim.Optimizer]

    def state(self) -> dict[str, Any]:
        """Weights by the name of the part, and what the optimisers remember."""
        weights = {name: part.state_dict() for name, part in self.parts.items()}
        return {**weights, "optimisers": [one.state_dict() for one in self.optimisers]}

    def load(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def set_rates(self, factor: float) -> None:
        """Set the rate of every group to `factor` times its base rate."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group.setdefault("base_lr", group["lr"])
                group["lr"] = group["base_lr"] * factor


def rng_for(seed: int, stage: str, step: int) -> np.random.Generator:
    """NumPy generator of one step; the same whether or not training was interrupted."""
    return np.random.default_rng([seed, step, *stage.encode()])


def torch_rng(rng: np.random.Generator) -> torch.Generator:
    """Torch generator seeded from a NumPy one."""
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def schedule(index: int, total: int, warmup: int = 50, decay: float = 0.4) -> float:
    """Learning-rate factor: linear warm-up, constant, linear decay over the last `decay`."""
    left = (total - index) / max(1.0, decay * total)
    return min(1.0, (index + 1) / warmup, left)


def muon_and_adamw(model: torch.nn.Module, blocks: str) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the modules whose name holds `blocks`, AdamW for the rest."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if blocks in name and parameter.ndim == 2 else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=3e-3, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class ConvolutionMuon(torch.optim.Muon):
    """Muon for weights of any rank, each taken as the matrix [outputs, all the rest].

    The matrices share the weights' memory. Weights without a gradient are left as they are.
    """

    def __init__(self, weights: list[torch.nn.Parameter], lr: float):
        self._weights = weights
        views = [torch.nn.Parameter(weight.detach().view(len(weight), -1)) for weight in weights]
        super().__init__(views, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the weights themselves."""
        super().zero_grad(set_to_none)
        for weight in self._weights:
            weight.grad = None

    def step(self, closure: Any = None) -> Any:
        """Move the weights along their gradients."""
        for weight, view in zip(self._weights, self.param_groups[0]["params"], strict=True):
            view.grad = None if weight.grad is None else weight.grad.view_as(view)
        return super().step(closure)


def convolution_optimisers(model: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the convolutions of `model`, AdamW for biases, norms and other small parts."""
    wide = [p for p in model.parameters() if p.ndim >= 3 and min(len(p), p[0].numel()) >= 12]
    rest = [p for p in model.parameters() if all(p is not other for other in wide)]
    return [
        ConvolutionMuon(wide, lr),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def flow_times(count: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """Stratified times in 0..1, one per 1/count of the unit interval, then shifted as in use."""
    uniform = (torch.rand(count, generator=generator) + torch.arange(count)) / count
    return shift * uniform / (1 + (shift - 1) * uniform)


def descend(
    loss: torch.Tensor, model: torch.nn.Module, optimisers: list[torch.optim.Optimizer]
) -> None:
    """One optimiser step on `loss`, its gradient clipped to norm 1."""
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()


@torch.no_grad()
def follow(slow: torch.nn.Module, fast: torch.nn.Module, index: int) -> None:
    """Move the moving average `slow` towards `fast`, quicker in the first steps."""
    decay = min(0.998, (1 + index) / (20 + index))
    for average, parameter in zip(slow.parameters(), fast.parameters(), strict=True):
        average.lerp_(parameter, 1 - decay)


def run(
    stage: Stage, total: int, folder: Path, deadline: float, *, resume: bool, save_every: int = 200
) -> bool:
    """Train `stage` to step `total` or until `deadline` (time.monotonic seconds).

    State is kept in `folder/<name>.pt`. Returns True once `total` is reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stage.name}.pt"
    index, seconds = 0, 0.0
    if resume and path.exists():
        saved = torch.load(path, weights_only=True)
        index, seconds = int(saved["step"]), float(saved["seconds"])
        stage.load(saved["state"])
    started, first, average = time.monotonic(), index, None

    def save() -> None:
        passed = seconds + time.monotonic() - started
        torch.save(
            {"step": index, "seconds": passed, "state": stage.state()}, path.with_suffix(".new")
        )
        path.with_suffix(".new").replace(path)

    asked_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.set())
    while index < total and time.monotonic() < deadline and not asked_to_stop.is_set():
        loss = stage.step(index, total)
        if not np.isfinite(loss):
            raise FloatingPointError(f"{stage.name}: loss is {loss} at step {index}")
        average = loss if average is None else 0.98 * average + 0.02 * loss
        index += 1
        if index % 50 == 0:
            pace = (time.monotonic() - started) / (index - first)
            log.info("%s %d/%d loss %.4f %.3f s/step", stage.name, index, total, average, pace)
        if index % save_every == 0:
            save()
    if index > first:
        save()
    return index >= total


def session(folder: Path, minutes: float, *, resume: bool) -> Callable[[Stage, int], bool]:
    """Return what trains a stage to a number of steps while `minutes` last; see `run`.

    Without `resume` what was trained in `folder` before is forgotten.
    """
    deadline = time.monotonic() + 60 * minutes
    if not resume:
        for old in folder.glob("*.pt"):
            old.unlink()
    return lambda stage, total: run(stage, total, folder, deadline, resume=True)


def seconds_spent(folder: Path, name: str) -> float:
    """Wall seconds that a stage has trained so far."""
    path = folder / f"{name}.pt"
    return float(torch.load(path, weights_only=True)["seconds"]) if path.exists() else 0.0
