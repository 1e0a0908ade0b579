"""How far one picture is from another: PSNR, SSIM, and a distance by learned features.

The distance is made as LPIPS is (arXiv 1801.03924): features of a convolutional network at several
depths, each made unit length over its channels, squared differences averaged over places and
depths. The network is the encoder of the model's own autoencoder, without weights tuned to what
people see: figures compare with one another for one model, and with no published LPIPS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

EQUAL_DB = 60.0
"""PSNR that stands for equal pictures, and the most that is counted: one level in 3 pixels."""
WINDOW, SIGMA = 11, 1.5
LUMA = (0.299, 0.587, 0.114)

Frames = NDArray[np.uint8]
"""A clip, or a picture as a clip of one frame: [frames, height, width, 3]."""


def psnr(a: Frames, b: Frames) -> float:
    """Peak signal-to-noise ratio in dB, at most EQUAL_DB."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return EQUAL_DB if error == 0 else min(EQUAL_DB, 10 * float(np.log10(255**2 / error)))


def _window() -> torch.Tensor:
    places = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    line = torch.exp(-(places**2) / (2 * SIGMA**2))
    square = torch.outer(line, line)
    return (square / square.sum())[None, None]


def ssim(a: Frames, b: Frames) -> float:
    """Structural similarity of luma, 1 for equal pictures (Wang et al. 2004, its constants)."""
    if np.array_equal(a, b):
        return 1.0
    x, y = (torch.from_numpy(f @ np.asarray(LUMA))[:, None].double() for f in (a, b))
    window = _window()

    def blur(values: torch.Tensor) -> torch.Tensor:
        return F.conv2d(values, window)

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(score.mean())


class Perceptual:
    """Distances by the features of an autoencoder's encoder; its weights are not changed."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._levels = list(vae.encoder.down_blocks)

    @contextmanager
    def _watching(self) -> Iterator[list[list[torch.Tensor]]]:
        """Collect what each level gives; a video encoder runs a level once for each few frames."""
        seen: list[list[torch.Tensor]] = [[] for _ in self._levels]

        def note(found: list[torch.Tensor]) -> Any:
            def hook(_module: Any, _args: Any, output: Any) -> None:
                found.append(output[0] if isinstance(output, tuple) else output)

            return hook

        hooks = [
            level.register_forward_hook(note(found))
            for level, found in zip(self._levels, seen, strict=True)
        ]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def distances(self, frames: Sequence[Frames]) -> list[float]:
        """Return how far each is from the first: 0 for equal pictures, at most 4."""
        # What loses nothing draws the same pixels: they are looked at once.
        different = {one.tobytes(): one for one in frames}
        places = {key: place for place, key in enumerate(different)}
        stack = torch.from_numpy(np.stack(list(different.values())))
        pixels = stack.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        if not any(isinstance(module, torch.nn.Conv3d) for module in self._vae.modules()):
            pixels = pixels[:, :, 0]
        with torch.inference_mode(), self._watching() as seen:
            self._vae.encode(pixels.to(self._vae.dtype))
        units = [F.normalize(part.float(), dim=1) for found in seen for part in found]
        parts = [((unit - unit[:1]) ** 2).sum(1).flatten(1).mean(1) for unit in units]
        values = torch.stack(parts).mean(0).tolist()
        return [values[places[one.tobytes()]] for one in frames]
