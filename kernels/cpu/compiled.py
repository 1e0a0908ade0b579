"""Code of operations that inductor compiled to C++: found on disk, or made in a process aside.

No call waits for a compiler. A call that would be best compiled orders the code where
KERNELS_COMPILE=1 allows it, and the reference serves until a later call finds it there.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kernels.cpu.calls import FORMS, canonical, format_of, key_of, small, varying
from kernels.cpu.table import capability
from kernels.dispatch import say_once

Code = Callable[[list[torch.Tensor]], list[torch.Tensor]]
MOST = 64
"""Codes of one process: calls of more kinds than these run their references."""
MOST_S = 900.0
"""Seconds that one compilation may take."""

_ready: dict[Any, Code | None] = {}
_building: dict[Any, tuple[subprocess.Popen[bytes], Path, float]] = {}
_lock = threading.Lock()


def cache_dir() -> Path:
    """Return where code is kept: KERNELS_COMPILE_DIR, else the user's cache."""
    chosen = os.environ.get("KERNELS_COMPILE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else home / "mercato" / "kernels"


def wanted() -> bool:
    """Whether code may be made: where KERNELS_COMPILE is 1."""
    return os.environ.get("KERNELS_COMPILE", "0") == "1"


def has_compiler() -> bool:
    """Whether a C++ compiler is found: CXX, g++ or clang++."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def code(op: str, args: tuple[Any, ...]) -> Code | None:
    """Return the code for a call, None while there is none; the first call orders it."""
    key = key_of(op, args)
    if key is None:
        return None
    if key in _ready:
        return _ready[key]
    with _lock:
        return _look_or_build(key, op, args)


def _take_finished() -> None:
    """Load what was compiled by now, whoever asked for it, and end what never finishes."""
    for key, (process, path, began) in list(_building.items()):
        if process.poll() is None:
            if time.monotonic() - began < MOST_S:
                continue
            process.kill()
            process.wait()
        del _building[key]
        _ready[key] = _load(path) if process.returncode == 0 else None
        if _ready[key] is None:
            say_once(f"{key[0]} was not compiled for this CPU: it runs its reference")


def _look_or_build(key: Any, op: str, args: tuple[Any, ...]) -> Code | None:
    _take_finished()
    if key in _ready:
        return _ready[key]
    if key in _building:
        return None
    path = _path(key)
    if path.exists():
        _ready[key] = _load(path)
        return _ready[key]
    if not wanted():
        return None  # a later call may come when it is
    if not has_compiler():
        say_once("there is no C++ compiler: operations on CPUs run their references")
        _ready[key] = None
    elif len(_ready) >= MOST:
        _ready[key] = None
    elif not _building:
        _building[key] = (_order(op, args, path), path, time.monotonic())
    return None


def _path(key: Any) -> Path:
    """Return the file of a key: our sources, versions and the machine's instructions count."""
    parts = [repr(key), _sources(), torch.__version__, capability()]
    return cache_dir() / f"{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:32]}.pt2"


@functools.cache
def _sources() -> str:
    """Return a digest of all that may change what is compiled: references call one another."""
    here = Path(__file__).parent
    files = [*sorted((here.parent / "ops").rglob("*.py")), here / "build.py", here / "calls.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _order(op: str, args: tuple[Any, ...], path: Path) -> subprocess.Popen[bytes]:
    told = [_told(op, place, value) for place, value in enumerate(canonical(op, args))]
    order = {"op": op, "small": small(args), "args": told, "out": str(path)}
    command = [sys.executable, "-m", "kernels.cpu.build", json.dumps(order)]
    nice = ["nice", "-n", "15"] if shutil.which("nice") else []
    return subprocess.Popen([*nice, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _told(op: str, place: int, value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if not isinstance(value, torch.Tensor):
        return value
    return {
        "shape": list(value.shape),
        "dtype": str(value.dtype).removeprefix("torch."),
        "format": format_of(value),
        "varying": varying(FORMS[op], place, value),
    }


def _load(path: Path) -> Code | None:
    try:
        package = torch._inductor.aoti_load_package(str(path))
    except Exception as error:
        say_once(f"compiled code does not load: {error}")
        return None
    # Called as it is, the package checks and flattens its arguments, which takes longer than many
    # an operation.
    found: Code = package.loader.run
    return found


def hoped_for(op: str, args: tuple[Any, ...]) -> bool:
    """Whether there may be code for a call later on."""
    key = key_of(op, args)
    return wanted() and key is not None and key not in _ready


def busy() -> bool:
    """Whether anything is being compiled."""
    return any(process.poll() is None for process, *_ in list(_building.values()))


def wait(seconds: float = 300) -> None:
    """Wait until nothing is being compiled: for measurements and tests, not for requests."""
    end = time.monotonic() + seconds
    while busy() and time.monotonic() < end:
        time.sleep(0.05)


def forget() -> None:
    """Forget what was loaded or given up, and end what is being compiled."""
    for process, *_ in _building.values():
        process.terminate()
        process.wait()
    _building.clear()
    _ready.clear()
