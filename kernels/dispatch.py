"""Chooses how an operation runs on a device: a kernel with its configuration, or the reference."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from kernels import _triton
from kernels.spec import NAMES, Config

log = logging.getLogger("kernels")

# What is compiled ahead of time in the test suite; nothing else runs a kernel.
ARCHES = ("sm_80", "sm_89", "sm_90", "sm_100", "gfx942")
# Those with an instruction that rounds to torch's float8_e4m3fn: gfx942 has another 8-bit format.
FP8_ARCHES = ("sm_89", "sm_90", "sm_100")
INTERPRETER = "interpreter"
TABLE = Path(__file__).with_name("table.json")

_off: dict[str, str] = {}


@functools.cache
def say_once(message: str) -> None:
    """Log `message` at the first call only."""
    log.warning(message)


@functools.cache
def arch_of(device: torch.device) -> str | None:
    """Name the architecture of `device`, None where no kernel runs on it."""
    if not _triton.AVAILABLE:
        say_once("Triton is not installed: kernels run their references")
        return None
    if device.type == "cpu":
        return INTERPRETER if _triton.INTERPRETED else None
    if device.type != "cuda":
        say_once(f"no kernels for devices of type {device.type}: they run their references")
        return None
    if torch.version.hip:
        name = str(torch.cuda.get_device_properties(device).gcnArchName).partition(":")[0]
    else:
        major, minor = torch.cuda.get_device_capability(device)
        name = f"sm_{major}{minor}"
    if name not in ARCHES:
        say_once(f"no kernels for {name}: they run their references")
        return None
    return name


def switch_off(op: str, reason: str) -> None:
    """Let `op` run its reference in this process from now on."""
    if op not in _off:
        _off[op] = reason
        log.warning("kernel %s is off: %s", op, reason)


def why_off(op: str) -> str | None:
    """Say why `op` was switched off, None if it is on."""
    return _off.get(op)


@functools.cache
def _table() -> dict[str, list[int]]:
    return json.loads(TABLE.read_text())["configs"] if TABLE.exists() else {}


def measured(op: str, shape_class: str, dtype: str, arch: str) -> list[int] | None:
    """Return what the committed table has for a call, None where nothing was measured."""
    return _table().get(f"{op}/{shape_class}/{dtype}/{arch}")


def guess(width: int, warp_size: int = 32) -> Config:
    """Guess the configuration of an operation on rows of `width` elements.

    A memory-bound kernel wants enough bytes in flight: tiles of at least 2048 elements, 16 of
    them per thread, so that each thread has two 16-byte loads under way of every operand.
    """
    block = _triton.next_power_of_2(width)
    rows = max(1, 2048 // block)
    warps = rows * block // (16 * warp_size)
    return Config(rows, min(max(warps, 1), 16 if warp_size == 32 else 8))


def has_eight_bits(to: str, device: torch.device) -> bool:
    """Say whether kernels on `device` can give and multiply numbers of type `to`: int8 or fp8."""
    return to == "int8" or arch_of(device) in (INTERPRETER, *FP8_ARCHES)


def config(
    op: str,
    shape_class: str,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
    guess: Callable[[int, int], Config] = guess,
) -> Config | None:
    """Return the configuration for a call, None where the reference is to run.

    The committed table, measured on devices, comes first; what it has not is guessed, from the
    width and the threads of a warp.
    """
    if op in _off or dtype not in NAMES:
        return None
    arch = arch_of(device)
    if arch is None:
        return None
    found = measured(op, shape_class, NAMES[dtype], arch)
    if found:
        return Config(*found)
    return guess(width, 64 if arch.startswith("gfx") else 32)
