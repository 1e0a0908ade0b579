"""What an optimisation is: a thing with a name, needs and a price in quality, put on and off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.engine.optimisation_specs import Needs, Speedup

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded

Undo = Callable[[], None]


def _nothing(_loaded: Loaded) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """`apply(loaded, **options)` puts it on and returns how to take it off.

    `loss` is what it may cost at most, in points of judged accuracy (0 to 100) on the starter
    models; 0 means that the picture stays within the family's bound. `needs` is what it asks of
    the device, `lacks` says what it misses besides in a pipeline that is loaded, None where it
    fits. Lower `order` goes on first.

    The rest is what the planner reads of it, before any pipeline is loaded. `denoise` and `decode`
    are how much faster it makes either. `memory` multiplies bytes of "denoiser", "text", "vae"
    (weights), "denoise" and "decode" (activations). Of those with the same non-empty `group` at
    most one is on. Not `recommended` means that it does not beat taking fewer steps in the same
    time.
    """

    name: str
    summary: str
    stage: str
    loss: float
    order: int
    apply: Callable[..., Undo]
    lacks: Callable[[Loaded], str | None] = _nothing
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    denoise: Speedup = field(default_factory=Speedup)
    decode: Speedup = field(default_factory=Speedup)
    memory: Mapping[str, float] = field(default_factory=dict)
    recommended: bool = True
    group: str = ""

    def missing(self, loaded: Loaded) -> str | None:
        """Say why it cannot be put on `loaded`, None if it can."""
        import torch

        device = loaded.device.device
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        return self.needs.refusal(device.type, capability) or self.lacks(loaded)

    @property
    def exact(self) -> bool:
        """Whether it leaves the picture as it is, within the family's bound."""
        return self.loss == 0

    @property
    def weighable(self) -> bool:
        """Whether it says what it gains."""
        plain = Speedup()
        return bool(self.memory) or self.denoise != plain or self.decode != plain
