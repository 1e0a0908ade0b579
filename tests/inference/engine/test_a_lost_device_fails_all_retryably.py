"""A device that a process can use no more fails all requests at once, to be tried elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.engine.errors import DeviceLostError, WeightsUnavailableError, is_device_lost
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore

REQUEST = GenerationRequest(prompt="a", steps=20, width=16, height=16)


@pytest.fixture
def own(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("ENGINE_THREADS", "1")
    engine = Engine(WeightsStore([weights_dir]))
    yield engine
    engine.close()


@pytest.mark.timeout(60)
def test_all_requests_fail_retryably_and_so_do_those_that_come_later(
    own: Engine, tiny_model: Model
) -> None:
    own.load(tiny_model).result()
    (loaded,) = own._loader.pipelines()
    assert not own.lost

    def fault(_module: Any, _args: Any) -> None:
        raise RuntimeError(
            "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be "
            "asynchronously reported at some other API call"
        )

    hook = loaded.vae.decoder.register_forward_pre_hook(fault)
    futures = [own.submit(tiny_model, REQUEST) for _ in range(4)]
    futures.append(own.submit(tiny_model, GenerationRequest(prompt="a", steps=200)))
    errors = [future.exception() for future in futures]
    assert {type(error) for error in errors} == {DeviceLostError}
    assert len({id(error) for error in errors}) == len(errors)
    assert own.lost
    hook.remove()
    # The process could not tell when it works again: it never does.
    later = own.submit(tiny_model, REQUEST).exception()
    assert isinstance(later, DeviceLostError)
    assert (later.code, later.retryable) == ("worker_lost", True)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: device-side assert triggered",
        "CUDA error: unspecified launch failure",
        "CUDA error: misaligned address",
        "CUDA error: uncorrectable ECC error encountered",
    ],
)
def test_what_leaves_a_device_useless_is_known_by_what_cuda_says(text: str) -> None:
    assert is_device_lost(RuntimeError(text))
    wrapped = WeightsUnavailableError("it does not load")
    wrapped.__cause__ = RuntimeError(text)
    assert is_device_lost(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("shape '[1, 2]' is invalid for input of size 3"),
        ValueError("a prompt about CUDA and an illegal memory access"),
    ],
)
def test_other_errors_leave_the_device_as_it_is(error: Exception) -> None:
    assert not is_device_lost(error)
