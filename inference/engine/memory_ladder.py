"""Makes work fit into the memory of a device, the gentlest step first: planned, or when it ran out.

The planner reckons with the rungs; the engine takes them on what it has loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inference.engine.cost import FRAGMENTATION, Prediction
from inference.engine.errors import is_out_of_memory

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded

HOST_BANDWIDTH = 25e9
"""Bytes a second from main memory to a GPU over PCIe 4 x16."""
STREAMED_SHARE = 0.1
"""Of streamed weights, the share that is on the device at a time: two layers of about 24."""

VAE_TILING = "vae-tiling"
OFFLOAD_TEXT = "offload-text-encoder"
BATCH_1 = "batch-1"
OFFLOAD_MODEL = "offload-model"
QUANTISE = "quantise-weights"
LADDER = (VAE_TILING, OFFLOAD_TEXT, BATCH_1, OFFLOAD_MODEL, QUANTISE)
MEANS: Mapping[str, str] = {
    VAE_TILING: "decode in tiles",
    OFFLOAD_TEXT: "stream the text encoder from main memory, layer by layer",
    BATCH_1: "run one request at a time",
    OFFLOAD_MODEL: "keep one part of the model on the device at a time",
    QUANTISE: "quantise the weights of the denoiser",
}
FEWER = "memory ran out: fewer requests at a time"
"""What is told of a pass that was halved."""


def _tile_vae(loaded: Loaded) -> bool:
    vae = loaded.vae
    if not hasattr(vae, "enable_tiling") or getattr(vae, "use_tiling", False):
        return False
    vae.enable_tiling()
    return True


def _encoders(loaded: Loaded) -> list[Any]:
    return [
        part
        for name, part in loaded.base.components.items()
        if name.startswith("text_encoder") and part is not None
    ]


def _stream_text(loaded: Loaded) -> bool:
    encoders = _encoders(loaded)
    if loaded.device.device.type != "cuda" or not encoders:
        return False
    from accelerate import cpu_offload

    for encoder in encoders:
        cpu_offload(encoder, loaded.device.device)
    return True


def _offload(loaded: Loaded) -> bool:
    if loaded.device.device.type != "cuda":
        return False
    if OFFLOAD_TEXT in loaded.rungs:
        from accelerate.hooks import remove_hook_from_module

        for encoder in _encoders(loaded):
            remove_hook_from_module(encoder, recurse=True)
    loaded.base.enable_model_cpu_offload(device=loaded.device.device)
    return True


TAKE: Mapping[str, Callable[[Loaded], bool]] = {
    VAE_TILING: _tile_vae,
    OFFLOAD_TEXT: _stream_text,
    OFFLOAD_MODEL: _offload,
}
"""How a rung is taken on a loaded pipeline; False where it makes no sense there.

Two are not here: one request at a time is what the engine does of itself when memory is short,
and quantised weights are what the plan advises: a profile must name them, for they are quantised
when they are loaded.
"""


def take(loaded: Loaded, rung: str) -> bool:
    """Take one rung on `loaded`, once; tell whether that changed anything."""
    if rung in loaded.rungs or rung not in TAKE or not TAKE[rung](loaded):
        return False
    loaded.rungs.append(rung)
    return True


def fall_back(loaded: Loaded, *, decoding: bool) -> str | None:
    """Take the next rung after memory ran out; return what to tell the user, None at the end.

    Tiles help nothing but decoding, and change what it gives.
    """
    for rung in LADDER:
        if (decoding or rung != VAE_TILING) and take(loaded, rung):
            return f"memory ran out: {MEANS[rung]}"
    return None


def place(loaded: Loaded, layout: Layout, memory_bytes: float) -> list[str]:
    """Bring a pipeline from main memory to its device, but what must stay out for it to fit.

    Return what to tell users. Where memory runs out all the same, one part is there at a time.
    """
    wanted = fit(layout, memory_bytes).taken
    if OFFLOAD_MODEL in wanted and take(loaded, OFFLOAD_MODEL):
        return [f"to fit into memory: {MEANS[OFFLOAD_MODEL]}"]
    device, notes = loaded.device.device, []
    if OFFLOAD_TEXT in wanted and take(loaded, OFFLOAD_TEXT):
        notes = [f"to fit into memory: {MEANS[OFFLOAD_TEXT]}"]
    streamed = _encoders(loaded) if notes else []
    try:
        for part in loaded.base.components.values():
            if hasattr(part, "parameters") and part not in streamed:
                part.to(device)
    except Exception as error:
        if not is_out_of_memory(error) or not take(loaded, OFFLOAD_MODEL):
            raise
        notes = [f"memory ran out: {MEANS[OFFLOAD_MODEL]}"]
    return notes


def prepare(loaded: Loaded, layout: Layout, memory_bytes: float) -> list[str]:
    """Take the rungs that `layout` needs to fit into `memory_bytes`; return what to tell users."""
    wanted = fit(layout, memory_bytes).taken
    return [f"to fit into memory: {MEANS[rung]}" for rung in wanted if take(loaded, rung)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What lies where. `whole` and `tiled` are predictions of one request with untiled and tiled
    decode; `scale` multiplies their bytes by part; `quantised` is the scale of the denoiser that
    the last rung would bring, None where the quality asked for allows none."""

    whole: Prediction
    tiled: Prediction
    scale: Mapping[str, float]
    batch: int
    device_kind: str
    quantised: float | None = None
    taken: tuple[str, ...] = ()

    def weights(self, part: str) -> float:
        """Bytes of one part's weights: "denoiser", "text" or "vae"."""
        scale = self.scale.get(part, 1.0)
        if part == "denoiser" and QUANTISE in self.taken and self.quantised is not None:
            scale *= self.quantised
        return self.whole.weights[part] * scale

    @property
    def peak_bytes(self) -> float:
        """The most that encoding, denoising or decoding needs."""
        found = self.tiled if VAE_TILING in self.taken else self.whole
        batch = 1 if BATCH_1 in self.taken else self.batch
        denoise = FRAGMENTATION * found.denoise_bytes * self.scale.get("denoise", 1.0) * batch
        decode = FRAGMENTATION * found.decode_bytes * self.scale.get("decode", 1.0)
        text = self.weights("text") * (STREAMED_SHARE if OFFLOAD_TEXT in self.taken else 1.0)
        denoiser, vae = self.weights("denoiser"), self.weights("vae")
        if OFFLOAD_MODEL in self.taken:
            peak = max(text, denoiser + denoise, vae + decode)
        else:
            peak = text + denoiser + vae + max(denoise, decode)
        return peak + found.overhead_bytes

    @property
    def transfer_seconds(self) -> float:
        """Seconds per request to bring to the device what does not stay there."""
        moved = 0.0
        if OFFLOAD_TEXT in self.taken or OFFLOAD_MODEL in self.taken:
            moved += self.weights("text")
        if OFFLOAD_MODEL in self.taken:
            moved += self.weights("denoiser") + self.weights("vae")
        return moved / HOST_BANDWIDTH

    def left(self) -> tuple[str, ...]:
        """Return the rungs not taken yet that would free anything here, in order."""
        return tuple(
            rung
            for rung in LADDER
            if rung not in self.taken and self.take(rung).peak_bytes < self.peak_bytes
        )

    def take(self, rung: str) -> Layout:
        """Return the layout with `rung` taken, unchanged where it makes no sense here."""
        useless = (
            (rung in (OFFLOAD_TEXT, OFFLOAD_MODEL) and self.device_kind == "cpu")
            or (rung == QUANTISE and self.quantised is None)
            or (rung == BATCH_1 and self.batch == 1)
            or rung in self.taken
        )
        return self if useless else replace(self, taken=(*self.taken, rung))


def fit(layout: Layout, memory_bytes: float) -> Layout:
    """Return `layout` with as many rungs taken, in order, as it needs to fit; all if it never does.

    A rung that frees nothing on its own is kept if the next ones build on it.
    """
    kept = layout.taken
    for rung in LADDER:
        if layout.peak_bytes <= memory_bytes:
            break
        layout = layout.take(rung)
    return _without_useless(layout, memory_bytes, kept)


def _without_useless(layout: Layout, memory_bytes: float, kept: tuple[str, ...]) -> Layout:
    """Take back each rung without which it fits all the same, the costliest first, but `kept`."""
    if layout.peak_bytes > memory_bytes:
        return layout
    for rung in reversed(layout.taken):
        if rung in kept:
            continue
        fewer = replace(layout, taken=tuple(name for name in layout.taken if name != rung))
        if fewer.peak_bytes <= memory_bytes:
            layout = fewer
    return layout
