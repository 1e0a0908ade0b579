"""Runs the denoiser and the decoder as code that AOTInductor compiled for their shapes.

Where `precompute` is on, the compiled denoiser takes what that has at hand in the place of the
text and the timestep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.engine.forward import current_rows
from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Needs, Speedup
from inference.engine.optimise.base import Optimisation, Undo
from inference.engine.optimise.compiling import Builds, cannot_compile
from inference.engine.optimise.precompute import Precompute
from inference.engine.sample import Inputs, Row, rows_key

if TYPE_CHECKING:
    import torch

MAX_ROWS = 64
SKIPPING = ("first_block_cache", "taylor", "teacache", "magcache")
"""What decides in Python, between blocks, for each row: compiled code would pass it by."""
Predict = Callable[[Inputs, dict[str, Any]], Any]


@dataclass(slots=True, kw_only=True)
class Compiled(Builds):
    """Stands for the denoiser's forward pass of two rows or more.

    A row alone runs eagerly: the code for two would compute it twice, and code of its own would
    be another minute of compiling for each shape, for requests without guidance that come alone.
    """

    eager: Predict

    def __call__(self, inputs: Inputs, shared: dict[str, Any]) -> Any:
        """Return the prediction, by compiled code where it is there and fits."""
        rows = current_rows()
        if rows is None or len(rows) == 1 or any(row.sample.request.loras for row in rows):
            return self.eager(inputs, shared)
        sample = rows[0].sample
        key = (rows_key(rows[:1]), sample.loaded.family.shared_key(sample))
        code = self.code(key, lambda: _wanted(rows[0]))
        count = len(rows)
        if code is None or count > MAX_ROWS:
            return self.eager(inputs, shared)
        if isinstance(self.eager, Precompute):
            inputs = self.eager.reduced(inputs, shared)
        return code(*(inputs[name] for name in sorted(inputs)))


def _wanted(row: Row) -> dict[str, Any]:
    request = row.sample.request
    names = ("width", "height", "num_frames", "max_sequence_length", "guidance")
    return {"request": {name: getattr(request, name) for name in names}}


def _lacks(loaded: Loaded) -> str | None:
    if len(loaded.denoisers) > 1:
        return "the model has two experts"
    for name in SKIPPING:
        if name in loaded.mounted:
            return f"{name} decides between blocks"
    if "int8_denoiser" in loaded.mounted:
        return "int8_denoiser is not compiled"
    return None if loaded.directory else "the model has no directory"


def _apply(loaded: Loaded) -> Undo:
    before = loaded.predict
    compiled = Compiled(loaded=loaded, part="denoiser", eager=before)
    loaded.predict = compiled
    loaded.builders.append(compiled)

    def undo() -> None:
        compiled.stop()
        loaded.builders.remove(compiled)
        loaded.predict = before

    return undo


@dataclass(slots=True, kw_only=True)
class CompiledDecoder(Builds):
    """Stands for the forward pass of an autoencoder's decoder."""

    eager: Callable[..., Any]

    def __call__(self, latents: torch.Tensor, *rest: Any, **names: Any) -> Any:
        """Return pixels, by compiled code where it is there; its size is that of `latents`."""
        if current_rows() is not None or any(part is not None for part in (*rest, *names.values())):
            return self.eager(latents, *rest, **names)
        shape = tuple(latents.shape)
        kind = str(latents.dtype).removeprefix("torch.")
        code = self.code((shape, kind), lambda: {"shape": list(shape), "dtype": kind})
        return self.eager(latents) if code is None else code(latents.contiguous())


def _decoder_lacks(loaded: Loaded) -> str | None:
    kind = type(getattr(loaded.base, "vae", None)).__name__
    if kind != "AutoencoderKL":
        return f"it does not know the decoder of {kind}"
    return None if loaded.directory else "the model has no directory"


def _apply_decoder(loaded: Loaded) -> Undo:
    decoder = loaded.vae.decoder
    compiled = CompiledDecoder(loaded=loaded, part="decoder", eager=decoder.forward)
    decoder.forward = compiled
    loaded.builders.append(compiled)

    def undo() -> None:
        compiled.stop()
        loaded.builders.remove(compiled)
        del decoder.forward

    return undo


COMPILED = Optimisation(
    name="compiled",
    summary="denoiser compiled for its shapes, in the background",
    stage="denoise",
    loss=0.0,
    order=60,
    apply=_apply,
    lacks=_lacks,
    needs=Needs(device="cpu", machine=cannot_compile),
    # 8.9 to 6.4 ms a pass of a model of 2.4 million weights, batch 2, on two EPYC cores.
    denoise=Speedup(whole=1.4),
)
COMPILED_DECODER = Optimisation(
    name="compiled_decoder",
    summary="decoder compiled for its shapes, in the background",
    stage="decode",
    loss=0.0,
    order=60,
    apply=_apply_decoder,
    lacks=_decoder_lacks,
    needs=Needs(device="cpu", machine=cannot_compile),
    decode=Speedup(whole=1.1),
    # Channels-last alone is faster, and asks for no compiler.
    recommended=False,
    group="decoder",
)
