"""Shows small pictures of what is being drawn, to those who watch, at a bounded cost.

A preview is made from what the sample is heading for, not from its noise. A small autoencoder
decodes it where that is quick. Elsewhere, where it may cost more than a step, latents become
colours by a linear map that is learnt from what the same pipeline has decoded.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from inference.engine.request import Media, Video

if TYPE_CHECKING:
    import numpy as np
    import torch

    from inference.engine.loaded import Loaded
    from inference.engine.sample import Sample
    from inference.engine.ticket import Ticket

log = logging.getLogger(__name__)

EVERY_STEPS = 4
EVERY_S = 0.7
"""A preview is due after so many steps or so many seconds, whichever comes first."""
SHARE = 0.02
"""How much of the device's time previews may take, over all requests."""
TINY_PARAMETERS = 4_000_000
TINY_PIXELS = 512 * 512
"""An autoencoder, and a picture, that are decoded for a preview."""
PROBES = 3
"""So many decodes of a pipeline tell what one costs, and teach its colours, come what may."""
LESSONS = 8
"""From so many decoded pictures a pipeline's colours are learnt."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture on its way: uint8 `pixels` [height, width, 3] after `step` of `steps`."""

    step: int
    steps: int
    pixels: np.ndarray


@dataclass(frozen=True, slots=True)
class Previews:
    """Who watches a request. Both are called on the engine's thread, so they must be quick."""

    wanted: Callable[[], bool]
    put: Callable[[Preview], None]


class Colours:
    """The linear map from latents to colours, fitted by least squares to finished pictures."""

    def __init__(self) -> None:
        self.lessons = 0
        self._squares: Any = 0.0
        self._products: Any = 0.0
        self._map: np.ndarray | None = None

    def learn(self, latents: np.ndarray, picture: np.ndarray) -> None:
        """Take in latents [channels, h, w] and the picture, uint8 [height, width, 3], of them."""
        import numpy as np
        from PIL import Image

        _, height, width = latents.shape
        small = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
        known = _columns(latents)
        wanted = np.asarray(small, dtype=np.float64).reshape(-1, 3) / 255
        self._squares = self._squares + known.T @ known
        self._products = self._products + known.T @ wanted
        ridge = 1e-3 * len(known) * np.eye(known.shape[1])
        self._map = np.linalg.solve(self._squares + ridge, self._products)
        self.lessons += 1

    def paint(self, latents: np.ndarray) -> np.ndarray:
        """Return colours, uint8 [h, w, 3]: shades of grey where nothing was learnt yet."""
        import numpy as np

        _, height, width = latents.shape
        if self._map is None or len(self._map) != len(latents) + 1:
            mean = latents.mean(axis=0)
            grey = 0.5 + (mean - mean.mean()) / (4 * max(float(mean.std()), 1e-6))
            colours = np.repeat(grey[..., None], 3, axis=2)
        else:
            colours = (_columns(latents) @ self._map).reshape(height, width, 3)
        levels: np.ndarray = (colours.clip(0, 1) * 255).round().astype(np.uint8)
        return levels


def _columns(latents: np.ndarray) -> np.ndarray:
    """Return [h * w, channels + 1]: a row of latents, and 1, for each place."""
    import numpy as np

    flat = latents.reshape(len(latents), -1).T.astype(np.float64)
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)


class Previewer:
    """Makes the previews of one device. Engine thread only.

    They are counted to nobody's time on the device, and no fault of theirs fails a request.
    """

    def __init__(self) -> None:
        self._free_at = 0.0
        self._tiny: WeakKeyDictionary[Loaded, bool] = WeakKeyDictionary()
        self._colours: WeakKeyDictionary[Loaded, Colours] = WeakKeyDictionary()
        self._decode_s: WeakKeyDictionary[Loaded, list[float]] = WeakKeyDictionary()

    def due(
        self, batch: Iterable[Sample], owner: Mapping[Sample, Ticket]
    ) -> dict[Sample, torch.Tensor]:
        """Return which samples are to be shown after their next step, with their latents now."""
        now = time.monotonic()
        found: dict[Sample, torch.Tensor] = {}
        if now < self._free_at:
            return found
        seen: set[int] = set()
        for sample in batch:
            ticket = owner[sample]
            if ticket.previews is None or id(ticket) in seen or not sample.latents.numel():
                continue
            seen.add(id(ticket))
            step, at = ticket.previewed
            due = sample.step + 1 - step >= EVERY_STEPS or now - at >= EVERY_S
            if due and sample.step + 1 < sample.steps and ticket.previews.wanted():
                found[sample] = sample.latents
        return found

    def show(self, due: Mapping[Sample, torch.Tensor], owner: Mapping[Sample, Ticket]) -> None:
        """Show the samples that were due, as far as the time for previews reaches."""
        for sample, before in due.items():
            ticket = owner.get(sample)
            began = time.monotonic()
            if ticket is None or ticket.previews is None or began < self._free_at:
                continue
            ticket.previewed = (sample.step, began)
            probing = self._probing(sample)
            try:
                pixels = self._pixels(sample, before)
                done, steps = ticket.done_of()
                ticket.previews.put(Preview(done, steps, pixels))
            except Exception:
                log.exception("a preview could not be made")
                ticket.previews = None
            if not probing:
                self._rest(began)

    def learn(self, ticket: Ticket, sample: Sample, media: Media) -> None:
        """Learn the colours of a pipeline from a finished picture, if anybody watched."""
        if not ticket.previewed[0]:
            return
        began = time.monotonic()
        try:
            self._teach(sample, _frame(media))
        except Exception:
            log.exception("nothing was learnt from a finished picture")
        self._rest(began)

    def _teach(self, sample: Sample, picture: np.ndarray) -> None:
        colours = self._colours.setdefault(sample.loaded, Colours())
        if colours.lessons < LESSONS:
            colours.learn(_array(sample.loaded.family.latent_picture(sample)), picture)

    def _rest(self, began: float) -> None:
        now = time.monotonic()
        self._free_at = now + (now - began) * (1 / SHARE - 1)

    def _probing(self, sample: Sample) -> bool:
        """Tell whether what a decode costs is still to be learnt: so seldom that nobody rests."""
        return self._is_tiny(sample) and len(self._decode_s.get(sample.loaded, ())) < PROBES

    def _decodes(self, sample: Sample) -> bool:
        """Tell whether a decode is quick enough to be a preview, as far as is known."""
        took = self._decode_s.get(sample.loaded, [])
        quick = len(took) < PROBES or min(took) <= SHARE * EVERY_S
        return quick and self._is_tiny(sample)

    def _is_tiny(self, sample: Sample) -> bool:
        loaded = sample.loaded
        if loaded not in self._tiny:
            vae = getattr(loaded.base, "vae", None)
            count = sum(p.numel() for p in vae.parameters()) if vae is not None else 0
            # A hook, as of offloading, would move the autoencoder to the device and back.
            self._tiny[loaded] = 0 < count < TINY_PARAMETERS and not hasattr(vae, "_hf_hook")
        width, height = sample.request.width or 0, sample.request.height or 0
        return self._tiny[loaded] and width * height <= TINY_PIXELS

    def _pixels(self, sample: Sample, before: torch.Tensor) -> np.ndarray:
        import torch

        family = sample.loaded.family
        shown = dataclasses.replace(sample, latents=heading_for(sample, before))
        began = time.monotonic()
        if self._decodes(sample) and (frame := family.preview_frame(shown)) is not None:
            levels = ((frame[0].float() * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
            pixels: np.ndarray = levels.permute(1, 2, 0).cpu().numpy()
            took = self._decode_s.setdefault(sample.loaded, [])
            took[:] = [*took, time.monotonic() - began][-PROBES:]
            self._teach(shown, pixels)
            return pixels
        colours = self._colours.setdefault(sample.loaded, Colours())
        return colours.paint(_array(family.latent_picture(shown)))


def heading_for(sample: Sample, before: torch.Tensor) -> torch.Tensor:
    """Return the latents without the noise that is still in them, as far as the last step tells.

    `before` are the latents before that step. Of x = x0 + s * n at two noise levels s, x0 follows
    from the line through both; so it does of flow matching's x = (1 - s) * x0 + s * n. Where the
    levels are not known, or the step was none, it is the latents as they are.
    """
    levels = _levels(sample)
    if levels is None:
        return sample.latents
    (scale_0, level_0), (scale_1, level_1) = levels
    if abs(level_1 - level_0) < 1e-6:
        return sample.latents
    old, new = before.float() / scale_0, sample.latents.float() / scale_1
    clean = new - level_1 * (new - old) / (level_1 - level_0)
    return clean.to(sample.latents.dtype) if bool(clean.isfinite().all()) else sample.latents


def _levels(sample: Sample) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Return (scale, noise level) before and after the last step; latents / scale is x0 + s n."""
    scheduler, step = sample.scheduler, sample.step
    index = getattr(scheduler, "step_index", None)
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None and index is not None and 0 < index < len(sigmas):
        levels = float(sigmas[index - 1]), float(sigmas[index])
        name, config = type(scheduler).__name__, scheduler.config
        is_flow = name.startswith("FlowMatch") or config.get("use_flow_sigmas")
        if is_flow or getattr(scheduler, "init_noise_sigma", 1) != 1:
            return (1.0, levels[0]), (1.0, levels[1])
        # UniPC and DPM-Solver keep latents of variance 1.
        before, after = (((1 + s * s) ** -0.5, s) for s in levels)
        return before, after
    products = getattr(scheduler, "alphas_cumprod", None)
    if products is None or not 0 < step < sample.steps:
        return None
    kept = [float(products[int(sample.timesteps[at])]) for at in (step - 1, step)]
    before, after = ((a**0.5, ((1 - a) / a) ** 0.5) for a in kept)
    return before, after


def _array(latents: torch.Tensor) -> np.ndarray:
    array: np.ndarray = latents.float().cpu().numpy()
    return array


def _frame(media: Media) -> np.ndarray:
    """Return a picture, or the middle of a clip, as uint8 [height, width, 3]."""
    import numpy as np

    if isinstance(media, Video):
        frame: np.ndarray = media.frames[len(media.frames) // 2]
        return frame
    return np.asarray(media.convert("RGB"))
