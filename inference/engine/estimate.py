"""Works out, beside the engine's thread, what requests will need before they are let in."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.engine import memory_ladder as ladder
from inference.engine.cost import FRAGMENTATION, Architecture, Prediction, forward_cost, predict
from inference.engine.memory_ladder import Layout
from inference.engine.shapes import Shape

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded
    from inference.engine.request import GenerationRequest
    from inference.engine.roofs import Roof

KEPT = 64
"""Estimates that are remembered for one pipeline."""
Key = tuple[Shape, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one output of a request needs: predictions with an untiled and with a tiled decode.

    `batch_tokens` is how many tokens a forward pass takes before a larger one gains nothing.
    """

    whole: Prediction
    tiled: Prediction
    batch_tokens: int

    def layout(self, loaded: Loaded) -> Layout:
        """Return what lies where for one output at a time, as `loaded` is set up now."""
        return Layout(
            whole=self.whole,
            tiled=self.tiled,
            scale={},
            batch=1,
            device_kind=loaded.device.device.type,
            taken=tuple(loaded.rungs),
        )

    def activations(self, loaded: Loaded) -> float:
        """Return the bytes that denoising or decoding one output needs beside the weights."""
        found = self.tiled if ladder.VAE_TILING in loaded.rungs else self.whole
        return FRAGMENTATION * max(found.denoise_bytes, found.decode_bytes)

    @property
    def step_bytes(self) -> float:
        """The bytes that one output takes in a forward pass, both branches of guidance."""
        return FRAGMENTATION * self.whole.denoise_bytes


def weights_of(pipeline: Any) -> dict[str, float]:
    """Return the bytes of a pipeline's weights: "denoiser" (all experts), "vae" and "text"."""
    from inference.engine.meter import weight_bytes

    found = {"denoiser": 0.0, "vae": 0.0, "text": 0.0}
    for name, module in pipeline.components.items():
        if not hasattr(module, "parameters"):
            continue
        part = "text"
        if name.startswith(("transformer", "unet")):
            part = "denoiser"
        elif name == "vae":
            part = "vae"
        found[part] += weight_bytes(module)
    return found


def shape_of(loaded: Loaded, request: GenerationRequest) -> Shape:
    """Return the shape of a completed request."""
    assert request.width is not None
    assert request.height is not None
    return Shape(
        width=request.width,
        height=request.height,
        num_frames=request.num_frames or 1,
        text_tokens=loaded.family.window(loaded, request),
    )


def is_guided(loaded: Loaded, request: GenerationRequest) -> bool:
    """Tell whether a completed request runs the denoiser twice a step."""
    return loaded.family.negative_text(loaded, request) is not None


def usual_request(loaded: Loaded) -> GenerationRequest:
    """Return the completed request of a user who asks for nothing but a prompt."""
    from PIL import Image

    from inference.engine.request import TEXT_TO_IMAGE, TEXT_TO_VIDEO, GenerationRequest

    family = loaded.family
    request = GenerationRequest(prompt="-").with_defaults(loaded.defaults)
    if not {TEXT_TO_IMAGE, TEXT_TO_VIDEO} & set(family.tasks(loaded.base)):
        picture = Image.new("RGB", family.default_size(loaded.base))
        request = dataclasses.replace(request, image=picture)
    return family.complete(loaded, request)


class Estimator:
    """Counts on a thread of its own; `wake` is called from there when a count is done.

    A pipeline that the cost model does not know has no estimates: it is let in unseen, and what
    the device says of it is heeded then.
    """

    def __init__(self, roof: Roof, wake: Callable[[], None]) -> None:
        self._roof = roof
        self._wake = wake
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="estimate")

    def of(self, loaded: Loaded, request: GenerationRequest) -> Future[Estimate | None]:
        """Return the estimate of a completed request: ordered at the first call, then remembered.

        Engine thread only.
        """
        known: OrderedDict[Key, Future[Estimate | None]] = loaded.estimates
        if loaded.base is None:
            nothing: Future[Estimate | None] = Future()
            nothing.set_result(None)
            return nothing
        key = (shape_of(loaded, request), is_guided(loaded, request))
        if key not in known:
            known[key] = self._thread.submit(count, loaded, self._roof, key[0], guided=key[1])
            known[key].add_done_callback(lambda _: self._wake())
            while len(known) > KEPT:
                known.popitem(last=False)
        known.move_to_end(key)
        return known[key]

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)


def count(loaded: Loaded, roof: Roof, shape: Shape, *, guided: bool) -> Estimate | None:
    """Count what one output of `shape` needs; None where the cost model does not know the model.

    It takes up to 2 s for a shape that was not counted before. Needs no weights on the device.
    """
    from inference.engine.batching import batch_tokens

    dtype = str(loaded.device.dtype).removeprefix("torch.")
    try:
        architecture = Architecture.of_pipeline(loaded.base)
        weights = weights_of(loaded.base)

        def of(tiled: bool) -> Prediction:
            found = predict(
                architecture,
                roof,
                shape,
                dtype=dtype,
                steps=1,
                guided=guided,
                tiled=tiled,
            )
            return dataclasses.replace(found, weights=weights)

        cost = forward_cost(architecture, shape, dtype)
        return Estimate(
            whole=of(False),
            tiled=of(True),
            batch_tokens=batch_tokens(cost, roof, dtype),
        )
    except Exception:
        # A class that nobody has counted yet, or one whose copy without weights does not run.
        return None
