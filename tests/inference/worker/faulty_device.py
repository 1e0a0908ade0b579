"""A worker whose model says, once it is asked to draw, what CUDA says of a device in ruins."""

from __future__ import annotations

from typing import Any

from celery import signals

from inference.worker import celery as worker


def fault(*_: Any) -> None:
    """Raise it."""
    raise RuntimeError("CUDA error: device-side assert triggered")


@signals.worker_ready.connect
def spoil(**_: Any) -> None:
    """Put the fault into what was loaded ahead."""
    assert worker.process is not None
    for loaded in worker.process.jobs._engine._loader.pipelines():
        loaded.denoiser.register_forward_pre_hook(fault)


if __name__ == "__main__":
    raise SystemExit(worker.main())
