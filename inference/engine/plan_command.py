"""`python -m inference plan`: say what would run how fast on which device, without having it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.engine.planner import Plan


def _given(asked: Any, usual: Any) -> Any:
    return usual if asked is None else asked


def _plan(arguments: argparse.Namespace) -> Plan:
    """Return the plan of what was asked for. Raises ValueError or DeviceMemoryError."""
    from inference.engine import planner
    from inference.engine.cost import Architecture
    from inference.engine.optimise import DEFAULTS, REGISTRY
    from inference.engine.roofs import roof_of
    from inference.engine.shapes import Shape
    from inference.engine.sizes import get

    sizes = get(arguments.model)
    guidance = _given(arguments.guidance, sizes.guidance)
    steps = _given(arguments.steps, sizes.steps)
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps}")
    memory = arguments.memory_gb
    if memory is not None and not 0 < memory < float("inf"):
        raise ValueError(f"memory-gb must be above 0, not {memory:g}")
    asked = planner.Question(
        family=sizes.family,
        architecture=Architecture.of_sizes(sizes),
        roof=roof_of(arguments.device),
        shape=Shape(
            width=_given(arguments.width, sizes.width),
            height=_given(arguments.height, sizes.height),
            num_frames=_given(arguments.num_frames, sizes.num_frames),
            text_tokens=sizes.text_tokens,
        ),
        specs=list(REGISTRY.values()),
        candidates=DEFAULTS,
        steps=steps,
        guided=sizes.guided and guidance > 1,
        quality=arguments.quality,
    )
    return planner.plan(sizes.name, asked, memory_bytes=None if memory is None else memory * 1e9)


def _run(arguments: argparse.Namespace) -> int:
    from inference.engine import planner
    from inference.engine.errors import DeviceMemoryError

    try:
        found = _plan(arguments)
    except (ValueError, DeviceMemoryError) as error:
        sys.stderr.write(f"inference: {error}\n")
        return 2 if isinstance(error, ValueError) else 1
    if arguments.json:
        profile = {choice.name: dict(choice.options) for choice in found.profile}
        answer = {**dataclasses.asdict(found), "profile": profile}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write(planner.explain(found) + "\n")
    return 0


def add_command(subparsers: Any) -> None:
    """Add `plan` to `subparsers`: it plans with the engine's own optimisations and choice.

    The command returns 2 where the wish is wrong and 1 where the model does not fit.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "plan", help="predict time and memory, and say which optimisations would be on"
    )
    parser.set_defaults(command=_run)
    parser.add_argument("--model", required=True, help="a published model, such as flux-dev")
    parser.add_argument("--device", default="cpu", help="h100, h200, a100, l40s, 4090 or cpu")
    parser.add_argument("--width", type=int, help="pixels (the model's own)")
    parser.add_argument("--height", type=int, help="pixels (the model's own)")
    parser.add_argument("--num-frames", type=int, help="1: a picture (the model's own)")
    parser.add_argument("--steps", type=int, help="of denoising (the model's own)")
    parser.add_argument("--guidance", type=float, help="1: none (the model's own)")
    parser.add_argument("--quality", default="exact", help="exact, high or fast")
    parser.add_argument(
        "--memory-gb", type=float, help="what may be used (all that the device has)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
