"""Makes compiled code in a process of its own, keeps it on disk, and says when it is there.

What is new is served by eager code meanwhile; no request ever waits for a compiler. The result is
used from the next call on after it is there, and by every process that comes later.
ENGINE_COMPILE=1 turns it on: it takes a minute or so of one core for each shape, which a machine
that also serves pages may not have.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.engine.families import name_of
from inference.engine.loaded import Loaded

RECIPE = "weights frozen"
"""How code is compiled: to be changed with the compiler's options, so that old code is not used."""
log = logging.getLogger(__name__)

MAX_SHAPES = 4
"""Shapes of one pipeline's part that are compiled; more are served by the eager model."""
SHAPING = ("bf16_denoiser", "bf16_decoder", "channels_last", "precompute")
"""Optimisations that change what is compiled, and are put on before it is."""


def cache_dir() -> Path:
    """Return where compiled code is kept: ENGINE_COMPILE_DIR, else the user's cache."""
    chosen = os.environ.get("ENGINE_COMPILE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else home / "mercato" / "compiled"


@dataclass(slots=True, kw_only=True)
class Builds:
    """The compiled forms of one part of a pipeline, by the shapes of what it is given."""

    loaded: Loaded
    part: str
    ready: dict[Hashable, Any] = field(default_factory=dict)
    building: dict[Hashable, tuple[subprocess.Popen[bytes], Path]] = field(default_factory=dict)
    given_up: set[Hashable] = field(default_factory=set)

    def code(self, key: Hashable, wanted: Callable[[], dict[str, Any]]) -> Any:
        """Return the code for `key`, None while there is none; the first call orders it.

        `wanted` returns what the compiler must know of the shapes.
        """
        if key in self.ready:
            return self.ready[key]
        if key in self.given_up:
            return None
        if key not in self.building:
            self._look_or_build(key, wanted)
            return self.ready.get(key)
        process, path = self.building[key]
        if process.poll() is None:
            return None
        del self.building[key]
        if process.returncode == 0 and self._load(key, path):
            return self.ready[key]
        log.warning("the %s was not compiled", self.part, extra={"status": process.returncode})
        self.given_up.add(key)
        return None

    def _look_or_build(self, key: Hashable, wanted: Callable[[], dict[str, Any]]) -> None:
        path = self._path(key)
        if path.exists() and self._load(key, path):
            return
        if len(self.ready) + len(self.building) >= MAX_SHAPES:
            self.given_up.add(key)
            return
        order = {
            "part": self.part,
            "directory": str(self.loaded.directory),
            "name": name_of(self.loaded.family),
            "optimisations": [name for name in self.loaded.mounted if name in SHAPING],
            "out": str(path),
            **wanted(),
        }
        command = [sys.executable, "-m", "inference.engine.optimise.compile_process"]
        process = subprocess.Popen(
            ["nice", "-n", "15", *command, json.dumps(order)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.building[key] = (process, path)

    def _path(self, key: Hashable) -> Path:
        """Return the file of a key: weights, shapes, precision, versions and machine decide it."""
        import diffusers
        import torch

        parts = [
            RECIPE,
            self.part,
            self.loaded.digest,
            repr(key),
            repr(sorted(set(self.loaded.mounted) & set(SHAPING))),
            torch.__version__,
            diffusers.__version__,
            self.loaded.device.name,
            torch.backends.cpu.get_cpu_capability(),
        ]
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        return cache_dir() / f"{name}.pt2"

    def _load(self, key: Hashable, path: Path) -> bool:
        import torch

        try:
            self.ready[key] = torch._inductor.aoti_load_package(str(path))
        except Exception as error:
            log.warning("compiled code does not load", extra={"problem": str(error)})
            return False
        return True

    @property
    def busy(self) -> bool:
        """Whether anything is being compiled."""
        return any(process.poll() is None for process, _ in self.building.values())

    def stop(self) -> None:
        """End what is being compiled."""
        for process, _ in self.building.values():
            process.terminate()
            process.wait()
        self.building.clear()


def cannot_compile() -> str | None:
    """Return why nothing can be compiled on this machine, None if it can."""
    if os.environ.get("ENGINE_COMPILE", "0") != "1":
        return "ENGINE_COMPILE is not 1"
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        return "there is no C++ compiler"
    return None
