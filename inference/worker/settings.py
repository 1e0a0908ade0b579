"""The worker's settings, all from the environment, and the secrets it refuses to hold."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from inference import protocol

FORBIDDEN = ("DATABASE_URL", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET", "SECRET_KEY")
DEFAULT_BROKER = "redis://127.0.0.1:6379/0"
SCHEMES = ("redis://", "rediss://", "unix://", "redis+socket://")
SLOTS = {"cpu": 8, "cuda": 16}
"""Jobs at a time, by kind of device: enough for the engine to fill its forward passes."""
NVIDIA = Path("/dev/nvidiactl")
"""Is there where a driver is. To ask torch would take seconds, before the first log line."""


def _positive(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name} must be a whole number above 0, not {text}")
    return int(text)


def _worker_id(text: str) -> str:
    if not protocol.WORKER_ID.fullmatch(text):
        raise ValueError(
            "WORKER_ID must be at most 120 letters, digits and . _ : @ -, the first a letter or a "
            f"digit, not {text[:120]}"
        )
    return text


def default_slots(env: Mapping[str, str]) -> int:
    """Return how many jobs to hold at once on the device that the engine will pick."""
    found = "cuda" if NVIDIA.exists() else "cpu"
    kind = (env.get("ENGINE_DEVICE") or found).partition(":")[0]
    return SLOTS.get(kind, SLOTS["cpu"])


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """`slots` is how many jobs are held at once; WORKER_SLOTS overrides what fits the device.

    `drain_s` bounds how long running jobs may go on after SIGTERM; None waits for them all.

    A job that is cut off so fails with worker_shutdown, which the control plane retries.
    `preload` are weights URIs to load before the first job is taken.
    """

    worker_id: str
    classes: list[str]
    slots: int
    broker_url: str
    valkey_url: str
    preload: list[str]
    visibility_timeout_s: int
    drain_s: int | None
    metrics_port: int | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the settings. Raises ValueError naming the variable that is wrong."""
        broker = env.get("BROKER_URL") or DEFAULT_BROKER
        for name in ("BROKER_URL", "VALKEY_URL"):
            if not (env.get(name) or broker).startswith(SCHEMES):
                raise ValueError(f"{name} must begin with one of {', '.join(SCHEMES)}")
        classes = [c.strip() for c in (env.get("WORKER_CLASSES") or "small").split(",")]
        if not all(classes):
            raise ValueError("WORKER_CLASSES must be names separated by commas, such as small")
        own_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        drains, metrics = env.get("WORKER_DRAIN_S"), env.get("WORKER_METRICS_PORT")
        return cls(
            worker_id=_worker_id(env.get("WORKER_ID") or own_id),
            classes=classes,
            slots=_positive(env, "WORKER_SLOTS", default_slots(env)),
            broker_url=broker,
            valkey_url=env.get("VALKEY_URL") or broker,
            preload=(env.get("WORKER_PRELOAD") or "").split(),
            visibility_timeout_s=_positive(env, "WORKER_VISIBILITY_TIMEOUT_S", 7200),
            drain_s=_positive(env, "WORKER_DRAIN_S", 1) if drains else None,
            metrics_port=_positive(env, "WORKER_METRICS_PORT", 1) if metrics else None,
        )


def refuse_secrets(env: Mapping[str, str]) -> None:
    """Raise ValueError if the environment holds what a GPU worker must never be given."""
    held = [name for name in FORBIDDEN if env.get(name)]
    if held:
        raise ValueError(f"a GPU worker must not be given {', '.join(held)}; unset it")
