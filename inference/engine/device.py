"""Chooses the device, number format and thread count the engine computes with."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device as torch and people call it. `memory_bytes` is its total memory."""

    device: torch.device
    dtype: torch.dtype
    name: str
    memory_bytes: int

    def synchronize(self) -> None:
        """Wait until all work given to the device is done, so that a clock read means it."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def used_bytes(self) -> int:
        """Return the memory in use: of a GPU by anybody, of a CPU by this process."""
        if self.device.type == "cuda":
            import torch

            free, total = torch.cuda.mem_get_info(self.device)
            return int(total - free)
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def release(self) -> None:
        """Give the memory of pipelines that nobody holds any more back to the device."""
        gc.collect()
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return "CPU"


def pick_device() -> Device:
    """Return the device to use: ENGINE_DEVICE, else CUDA where there is one, else the CPU.

    ENGINE_DTYPE (float32, bfloat16, float16) overrides float32 on CPU and bfloat16 on CUDA;
    ENGINE_THREADS sets torch's threads and is best called on the thread that computes.
    Raises ValueError naming the variable that is wrong.
    """
    import torch

    kind = os.environ.get("ENGINE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"ENGINE_DEVICE must be cpu or cuda, not {kind}")
    on_cuda = kind.startswith("cuda")
    if on_cuda and not torch.cuda.is_available():
        raise ValueError("ENGINE_DEVICE is cuda but torch sees no CUDA device")
    dtype = os.environ.get("ENGINE_DTYPE") or ("bfloat16" if on_cuda else "float32")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"ENGINE_DTYPE must be float32, bfloat16 or float16, not {dtype}")
    threads = os.environ.get("ENGINE_THREADS")
    if threads:
        if not threads.isdigit() or int(threads) < 1:
            raise ValueError(f"ENGINE_THREADS must be a whole number above 0, not {threads}")
        torch.set_num_threads(int(threads))
    device = torch.device(kind)
    if on_cuda:
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, properties.total_memory
    else:
        name, memory = _cpu_name(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(device=device, dtype=getattr(torch, dtype), name=name, memory_bytes=memory)
