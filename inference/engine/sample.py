"""What is being drawn: one picture or clip on its way through the stages, step by step."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from inference.engine.loaded import Loaded
    from inference.engine.request import GenerationRequest

POSITIVE = "positive"
NEGATIVE = "negative"

Inputs = dict[str, "torch.Tensor"]
"""Arguments of the denoiser by name, each with a leading dimension of 1: one row of a batch."""


@dataclass(slots=True, kw_only=True)
class Condition:
    """What a request asks the denoiser for. `negative` is None where there is no guidance."""

    positive: Inputs
    negative: Inputs | None = None
    guidance: float = 1.0


@dataclass(slots=True, kw_only=True, eq=False)
class Sample:
    """One output under way. It has a scheduler and a generator of its own, so that it can share
    forward passes with samples that are at other steps.

    `shared` are arguments of the denoiser that are equal for all samples of one `key`; `fixed`
    is what the family keeps for itself (a mask, the latents of a given image).
    """

    loaded: Loaded
    request: GenerationRequest
    condition: Condition
    latents: torch.Tensor
    scheduler: Any
    timesteps: torch.Tensor
    generator: torch.Generator
    tokens: int
    shared: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    step_bytes: float = 0.0
    """What a forward pass is predicted to need for this sample; 0 where nobody knows."""
    batch_tokens: int = 0
    """Tokens of a forward pass that are worth batching; 0 where nobody knows."""
    decode_s: float = 0.0
    """Seconds that its decode has taken so far."""
    nsfw: bool | None = None
    """What the weights' safety checker says of the output; None where nobody looked."""
    key: Hashable = None
    memory: dict[Any, Any] = field(default_factory=dict)
    """What optimisations remember of this sample, by their own keys; gone when it is done."""

    @property
    def steps(self) -> int:
        """The number of steps in all."""
        return len(self.timesteps)

    @property
    def time(self) -> torch.Tensor:
        """The timestep of the next step, a scalar tensor."""
        return self.timesteps[self.step]

    @property
    def guided(self) -> bool:
        """Whether the next step runs the negative branch too."""
        until = self.loaded.guidance_until * self.steps
        return self.condition.negative is not None and self.step < until


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """One row of a forward pass."""

    sample: Sample
    branch: str
    inputs: Inputs


def rows_key(rows: list[Row]) -> Hashable:
    """Return what rows must have in common to share a forward pass: names, shapes and types."""
    return tuple(
        (name, tuple(tensor.shape[1:]), tensor.dtype)
        for name, tensor in sorted(rows[0].inputs.items())
    )
