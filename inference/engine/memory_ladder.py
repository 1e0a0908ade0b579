"""Makes a plan fit into the memory of a device, the gentlest step first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from inference.engine.cost import FRAGMENTATION, Prediction

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
        )
        return self if useless else replace(self, taken=(*self.taken, rung))


def fit(layout: Layout, memory_bytes: float) -> Layout:
    """Return `layout` with as many rungs taken, in order, as it needs to fit; all if it never does.

    A rung that frees nothing on its own is kept if the next ones build on it.
    """
    for rung in LADDER:
        if layout.peak_bytes <= memory_bytes:
            break
        layout = layout.take(rung)
    return _without_useless(layout, memory_bytes)


def _without_useless(layout: Layout, memory_bytes: float) -> Layout:
    """Take back each rung without which it fits all the same, the costliest first."""
    if layout.peak_bytes > memory_bytes:
        return layout
    for rung in reversed(layout.taken):
        fewer = replace(layout, taken=tuple(name for name in layout.taken if name != rung))
        if fewer.peak_bytes <= memory_bytes:
            layout = fewer
    return layout
