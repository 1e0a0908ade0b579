"""Compiles a part of a model for one shape; a process of its own, so that nobody waits."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def _example(loaded: Any, wanted: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return a row, inputs of two rows as the engine would give them, and what they share."""
    import torch

    from inference.engine.forward import only
    from inference.engine.optimise.precompute import Precompute
    from inference.engine.request import GenerationRequest

    request = GenerationRequest(prompt="a", **wanted)
    request = loaded.family.complete(loaded, request)
    (condition,) = loaded.family.encode(loaded, [request])
    sample = loaded.family.begin(loaded, request, condition, 0)
    row = loaded.family.rows(sample)[0]
    inputs = {name: torch.cat([t, t]) for name, t in row.inputs.items()}
    if isinstance(loaded.predict, Precompute):
        with only([row, row]):
            inputs = loaded.predict.reduced(inputs, sample.shared)
    return row, inputs, sample.shared


def _denoiser(loaded: Any, wanted: dict[str, Any]) -> Any:
    """Export the denoiser for two rows or more."""
    import torch

    from inference.engine.optimise.compiled import MAX_ROWS
    from inference.engine.optimise.precompute import Precompute

    row, example, shared = _example(loaded, wanted)
    names = sorted(example)

    class Denoise(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.denoiser = loaded.denoiser

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            inputs = dict(zip(names, tensors, strict=True))
            if isinstance(loaded.predict, Precompute):
                prediction: torch.Tensor = loaded.predict.with_reduced(row, inputs, shared)
            else:
                prediction = loaded.family.predict(loaded, inputs, shared)
            return prediction

    rows = torch.export.Dim("rows", min=2, max=MAX_ROWS)
    return torch.export.export(
        Denoise().eval(),
        tuple(example[name] for name in names),
        dynamic_shapes=(tuple({0: rows} for _ in names),),
    )


def _decoder(loaded: Any, shape: list[int], dtype: str) -> Any:
    """Export the decoder; what is hooked on it runs outside of the compiled code."""
    import torch

    class Decode(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = loaded.vae.decoder

        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            pixels: torch.Tensor = self.decoder.forward(latents)
            return pixels

    example = torch.zeros(shape, dtype=getattr(torch, dtype))
    return torch.export.export(Decode().eval(), (example,))


def compile_part(order: dict[str, Any]) -> None:
    """Export, compile, and put the package in its place in one step."""
    import torch

    from inference.engine.device import pick_device
    from inference.engine.families import get_family
    from inference.engine.loaded import Loaded
    from inference.engine.optimise import mount
    from inference.engine.profile import Profile

    family, directory = get_family(order["name"]), Path(order["directory"])
    device = pick_device()
    loaded = Loaded(family, family.load(directory, device), device)
    mount(loaded, Profile(optimisations={name: {} for name in order["optimisations"]}))
    with torch.no_grad():
        if order["part"] == "denoiser":
            exported = _denoiser(loaded, order["request"])
        else:
            exported = _decoder(loaded, order["shape"], order["dtype"])
        out = Path(order["out"])
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            package = torch._inductor.aoti_compile_and_package(
                exported,
                package_path=str(Path(folder) / "code.pt2"),
                # Weights are constants: packed once for the CPU's matrix units, at compile time.
                inductor_configs={"freezing": True},
            )
            Path(package).replace(out)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    compile_part(json.loads(sys.argv[1]))
