"""Compiles one operation for one kind of call, in a process of its own: see compiled.py."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from kernels.cpu.calls import FORMATS, FORMS
from kernels.registry import REGISTRY

OPTIONS: dict[str, Any] = {
    # What calls the kernel is compiled no better than it need be: that took most of the time.
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "aot_inductor.precompile_headers": True,
}


def _example(told: Any) -> Any:
    """Return an argument like the one that was described."""
    if not isinstance(told, dict):
        return told
    dtype = getattr(torch, told["dtype"])
    if "shape" not in told:
        return dtype
    x = torch.randn(told["shape"]) if dtype.is_floating_point else torch.ones(told["shape"])
    return x.to(dtype).contiguous(memory_format=FORMATS[told["format"]])


def build(order: dict[str, Any]) -> None:
    """Export the operation's reference, compile it, and put the package in its place in one step.

    The code takes the tensors among the arguments, and returns what the reference returns, or
    changes them as the operation does that works in place.
    """
    spec = REGISTRY[order["op"]]
    args = [_example(told) for told in order["args"]]
    tensors = [place for place, value in enumerate(args) if isinstance(value, torch.Tensor)]

    class Whole(torch.nn.Module):
        def forward(self, *given: torch.Tensor) -> Any:
            full = list(args)
            for place, value in zip(tensors, given, strict=True):
                full[place] = value
            made = spec.reference(*full)
            if not FORMS[spec.name].in_place:
                return made
            for old, new in zip(given, made, strict=False):
                old.copy_(new)
            return torch.zeros(1)  # code has a result

    # Small work is done before a second thread wakes; else as many threads as the process has.
    threads = {"cpp.threads": 1} if order["small"] else {"cpp.dynamic_threads": True}
    free = torch.export.Dim.DYNAMIC
    shapes = tuple(dict.fromkeys(order["args"][p]["varying"], free) for p in tensors)
    with torch.no_grad():
        exported = torch.export.export(
            Whole().eval(), tuple(args[p] for p in tensors), dynamic_shapes=(shapes,)
        )
        out = Path(order["out"])
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            package = torch._inductor.aoti_compile_and_package(
                exported,
                package_path=str(Path(folder) / "code.pt2"),
                inductor_configs=OPTIONS | threads,
            )
            Path(package).replace(out)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    build(json.loads(sys.argv[1]))
