"""A pipeline that is on the device, with what is mounted on it and what it remembers."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.engine.weights.report import FetchReport

if TYPE_CHECKING:
    from inference.engine.device import Device
    from inference.engine.families.base import Family
    from inference.engine.request import GenerationRequest
    from inference.engine.sample import Inputs

TEXTS_KEPT = 64


class Loaded:
    """A family's pipeline on `device`; `digest` identifies its weights.

    `guidance_until` is the share of the steps that run the negative branch.
    """

    def __init__(
        self,
        family: Family,
        base: Any,
        device: Device,
        digest: str = "",
        directory: Path | None = None,
        report: FetchReport | None = None,
    ) -> None:
        self.family = family
        self.base = base
        self.device = device
        self.digest = digest
        self.directory = directory
        self.report = report or FetchReport()
        """Where the weights came from, and how long that took."""
        self.predict: Callable[[Inputs, dict[str, Any]], Any] = self._eager
        """The denoiser's forward pass; optimisations may put another one in its place."""
        self.guidance_until = 1.0
        self.step_share = 1.0
        """The share of the steps asked for that is run, but `least_steps` where so many are."""
        self.least_steps = 1
        self.mounted: dict[str, Callable[[], None]] = {}
        """Undo functions of the optimisations that are on, in the order they were put on."""
        self.fused_loras = False
        """Whether our kernel makes the change of LoRAs together with the products."""
        self.builders: list[Any] = []
        """What compiles in the background; each says whether it is `busy`."""
        self.caches: list[Any] = []
        """What skips blocks, with a count of the rows that were not skipped."""
        self.notes: list[str] = []
        """What a user should be told of how this pipeline was set up."""
        self.rungs: list[str] = []
        """The rungs of the memory ladder that were taken."""
        self.estimates: OrderedDict[Any, Future[Any]] = OrderedDict()
        """What requests need, by shape; see `Estimator`."""
        self.defaults: Mapping[str, Any] = {}
        """What a request of these weights gets where it asks for nothing."""
        self._tasks: dict[str, Any] = {}
        self._texts: OrderedDict[Hashable, Inputs] = OrderedDict()

    def complete(self, request: GenerationRequest) -> GenerationRequest:
        """Return `request` with what it leaves open filled in, and with the steps that are run."""
        request = self.family.complete(self, request)
        if request.steps is None or self.step_share == 1:
            return request
        least = min(request.steps, self.least_steps)
        return replace(request, steps=max(least, round(self.step_share * request.steps)))

    def _eager(self, inputs: Inputs, shared: dict[str, Any]) -> Any:
        """Run the model as it is, with the LoRAs of the rows that it is run for."""
        from inference.engine.forward import current_rows
        from inference.engine.lora.mount import applied

        with applied(current_rows() or []):
            return self.family.predict(self, inputs, shared)

    @property
    def denoiser(self) -> Any:
        """The transformer or the UNet."""
        return getattr(self.base, "transformer", None) or self.base.unet

    @denoiser.setter
    def denoiser(self, module: Any) -> None:
        name = "transformer" if getattr(self.base, "transformer", None) is not None else "unet"
        for pipeline in (self.base, *self._tasks.values()):
            setattr(pipeline, name, module)

    @property
    def denoisers(self) -> list[Any]:
        """The denoiser, and the second expert of a model that has two."""
        second = getattr(self.base, "transformer_2", None)
        return [self.denoiser] if second is None else [self.denoiser, second]

    @property
    def vae(self) -> Any:
        """The autoencoder."""
        return self.base.vae

    def task(self, class_name: str) -> Any:
        """Return the diffusers pipeline of that class over the same modules."""
        if type(self.base).__name__ == class_name:
            return self.base
        if class_name not in self._tasks:
            import diffusers

            cls = getattr(diffusers, class_name)
            wanted = set(inspect.signature(cls.__init__).parameters)
            # Beside its modules, a pipeline may be told how to use them.
            told = {**self.base.config, **self.base.components}
            parts = {k: v for k, v in told.items() if k in wanted}
            if "requires_safety_checker" in wanted:
                parts["requires_safety_checker"] = False
            pipeline = cls(**parts)
            pipeline.set_progress_bar_config(disable=True)
            self._tasks[class_name] = pipeline
        return self._tasks[class_name]

    def texts(
        self, wanted: list[Hashable], embed: Callable[[list[Any]], list[Inputs]]
    ) -> dict[Hashable, Inputs]:
        """Return the embeddings of `wanted`, calling `embed` once for those not remembered."""
        missing = [key for key in dict.fromkeys(wanted) if key not in self._texts]
        found = dict(zip(missing, embed(missing), strict=True)) if missing else {}
        for key in wanted:
            if key in self._texts:
                self._texts.move_to_end(key)
                found[key] = self._texts[key]
        for key in missing:
            self._texts[key] = found[key]
        while len(self._texts) > TEXTS_KEPT:
            self._texts.popitem(last=False)
        return found

    def forget_texts(self) -> None:
        """Drop remembered embeddings, as after a change to a text encoder."""
        self._texts.clear()
