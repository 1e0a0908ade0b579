"""What devices can do at best: the roofs under which the cost model predicts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from inference.engine.device import Device

GIB = 1024**3
PROBE_SECONDS = 0.05
"""How long each of the probe's three measurements may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """One device. `flops` are dense operations a second by number format, `bandwidth` bytes/s.

    `matmul_share`, `attention_share` and `bandwidth_share` are the shares of those that stock
    kernels reach; `operation_seconds` is what the host needs to launch one operation in eager mode.
    Where `hidden_launch`, launches run ahead of the device and cost only what it does not cover.
    `capability` is what NVIDIA calls the compute capability; None of a CPU.
    `cores` are streaming multiprocessors, each of which takes one tile of a product at a time.
    """

    name: str
    kind: str
    flops: Mapping[str, float]
    bandwidth: float
    memory_bytes: int
    operation_seconds: float
    cores: int = 0
    matmul_share: float = 0.6
    attention_share: float = 0.5
    bandwidth_share: float = 0.8
    hidden_launch: bool = True
    capability: tuple[int, int] | None = None

    def peak(self, dtype: str) -> float:
        """Return operations per second in `dtype`. Raises ValueError where it has no such units."""
        if dtype not in self.flops:
            raise ValueError(f"{self.name} does not compute in {dtype}")
        return self.flops[dtype]

    def ridge(self, dtype: str) -> float:
        """Return operations per byte above which work is bound by compute."""
        return self.peak(dtype) / self.bandwidth


def _cuda(
    name: str,
    capability: tuple[int, int],
    cores: int,
    gib: float,
    gigabytes: float,
    attention: float,
    **teraflops: float,
) -> Roof:
    flops = {dtype: value * 1e12 for dtype, value in teraflops.items()}
    flops["float16"] = flops["bfloat16"]
    return Roof(
        name=name,
        kind="cuda",
        flops=MappingProxyType(flops),
        bandwidth=gigabytes * 1e9,
        memory_bytes=int(gib * GIB),
        operation_seconds=EAGER_LAUNCH_SECONDS,
        cores=cores,
        attention_share=attention,
        capability=capability,
    )


EAGER_LAUNCH_SECONDS = 15e-6
"""Per operation, from Python through diffusers' modules. Published: 512² Qwen-Image on an H200
takes 83 ms a pass at batch 1, bound by launches (4 pictures take 1.4 times as long), for 5,500
operations."""

# Vendors' data sheets: dense (no structured sparsity), float32 accumulation; memory as the driver
# reports it.
# Attention: FlashAttention 2, which torch's SDPA runs, was written for Ampere; its share
# on Hopper fits the published 1.90, 3.14 and 34.9 s a guided step of Wan 1.3B, 5B and 14B.
_HOPPER = {"bfloat16": 990, "float8": 1979, "int8": 1979, "float32": 67, "tf32": 494}
ROOFS: Mapping[str, Roof] = MappingProxyType(
    {
        "h100": _cuda("H100 SXM", (9, 0), 132, 79.1, 3350, 0.35, **_HOPPER),
        "h200": _cuda("H200 SXM", (9, 0), 132, 139.8, 4800, 0.35, **_HOPPER),
        "a100": _cuda(
            "A100 SXM 80GB",
            (8, 0),
            108,
            79.1,
            2039,
            0.5,
            bfloat16=312,
            int8=624,
            float32=19.5,
            tf32=156,
        ),
        "l40s": _cuda(
            "L40S", (8, 9), 142, 44.4, 864, 0.5, bfloat16=362, float8=733, int8=733, float32=91.6
        ),
        "4090": _cuda(
            "RTX 4090",
            (8, 9),
            128,
            23.5,
            1008,
            0.5,
            bfloat16=165,
            float8=330,
            int8=661,
            float32=82.6,
        ),
    }
)

_cpu: Roof | None = None
_cpu_lock = threading.Lock()


def _best(run: Callable[[], object]) -> float:
    """Return the least seconds that `run` took within PROBE_SECONDS, after one warm-up."""
    run()
    best, end = float("inf"), time.perf_counter() + PROBE_SECONDS
    while True:
        began = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - began)
        if now >= end:
            return best


def _probe() -> Roof:
    """Measure this CPU with torch's present threads: a GEMM, a copy, and small layers."""
    import torch

    from inference.engine.device import _cpu_name

    side, flops = 512, {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.ones(side, side, dtype=dtype) for _ in range(2))

        def multiply(left: torch.Tensor = left, right: torch.Tensor = right) -> torch.Tensor:
            return left @ right

        flops[str(dtype).removeprefix("torch.")] = 2 * side**3 / _best(multiply)
    source = torch.ones(1024 * 1024)
    target = torch.empty_like(source)
    bandwidth = 2 * source.numel() * source.element_size() / _best(lambda: target.copy_(source))
    small = torch.ones(1, 16, 64)
    linear, norm = torch.nn.Linear(64, 64), torch.nn.LayerNorm(64)

    def layers() -> torch.Tensor:
        """Run five operations that are too small to take time themselves."""
        with torch.no_grad():
            hidden = norm(linear(small))
            return torch.nn.functional.silu(hidden + small).transpose(1, 2).contiguous()

    return Roof(
        name=_cpu_name(),
        kind="cpu",
        flops=MappingProxyType({**flops, "float16": flops["bfloat16"]}),
        bandwidth=bandwidth,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        # Twice: a real module's views, checks and hooks cost Python as much again.
        operation_seconds=2 * _best(layers) / 5,
        matmul_share=0.8,
        hidden_launch=False,
    )


def cpu() -> Roof:
    """Return the roof of this CPU, measured at the first call (0.2 s) and then remembered."""
    global _cpu
    with _cpu_lock:
        if _cpu is None:
            _cpu = _probe()
        return _cpu


def roof_of(name: str) -> Roof:
    """Return the roof of a device by name: h100, h200, a100, l40s, 4090, cpu, or a driver's name.

    Raises ValueError that lists what there is.
    """
    if name.lower() == "cpu":
        return cpu()
    for key, roof in ROOFS.items():
        if key in name.lower():
            return roof
    raise ValueError(f"no roof is known for {name!r}; there are {', '.join(ROOFS)} and cpu")


def roof_for(device: Device) -> Roof:
    """Return the roof of the engine's device, with the memory that it really has.

    An unknown GPU is taken for the slowest that is known: predictions then correct themselves.
    """
    import dataclasses

    if device.device.type == "cpu":
        roof = cpu()
    else:
        try:
            roof = roof_of(device.name)
        except ValueError:
            roof = dataclasses.replace(ROOFS["4090"], name=device.name)
    return dataclasses.replace(roof, memory_bytes=device.memory_bytes)
