"""The committed list of every compiled kernel: hash of its content, registers, spills, loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kernels import aot
from kernels._triton import triton

PATH = Path(__file__).with_name("manifest.json")


def read() -> dict[str, Any]:
    """Return the manifest as committed; an empty one where there is none."""
    if not PATH.exists():
        return {"triton": "", "kernels": {}}
    return dict(json.loads(PATH.read_text()))


def update(*, afresh: bool = False) -> tuple[int, list[str]]:
    """Compile what changed (everything if `afresh`), write the manifest.

    Returns how many were compiled and what is wrong with any kernel.
    """
    old = read()
    known = {} if afresh or old["triton"] != triton.__version__ else old["kernels"]
    kernels: dict[str, Any] = {}
    wrong: list[str] = []
    compiled = 0
    for specialisation, arch in aot.every():
        name = f"{specialisation.name}@{arch}"
        content = aot.content_hash(specialisation, arch)
        facts = known.get(name, {})
        if facts.get("hash") != content:
            facts = {"hash": content} | aot.compile_for(specialisation, arch)
            compiled += 1
        kernels[name] = facts
        wrong += aot.faults(specialisation, arch, facts)
    lines = ",\n".join(
        f"    {json.dumps(name)}: {json.dumps(kernels[name])}" for name in sorted(kernels)
    )
    PATH.write_text(
        f'{{\n  "triton": "{triton.__version__}",\n  "kernels": {{\n{lines}\n  }}\n}}\n'
    )
    return compiled, wrong


def check(sample: int) -> list[str]:
    """Say what is stale or wrong: every hash is compared, and `sample` kernels compiled anew.

    The compiled ones are compared where the manifest was made by the same version of Triton.
    """
    committed = read()
    entries = dict(committed["kernels"])
    found = list(aot.every())
    wrong: list[str] = []
    step = max(1, len(found) // sample) if sample else len(found) + 1
    # Of neighbours the architecture is the same: an odd step visits all of them.
    chosen = set(range(step // 2, len(found), step))
    for number, (specialisation, arch) in enumerate(found):
        name = f"{specialisation.name}@{arch}"
        facts = entries.pop(name, None)
        content = aot.content_hash(specialisation, arch)
        if facts is None or facts["hash"] != content:
            wrong.append(
                f"{name} is not in the manifest as it is: run `python -m kernels manifest`"
            )
            continue
        if number in chosen:
            fresh = {"hash": content} | aot.compile_for(specialisation, arch)
            if committed["triton"] == triton.__version__ and fresh != facts:
                wrong.append(f"{name} compiles to {fresh}, the manifest says {facts}")
            facts = fresh
        wrong += aot.faults(specialisation, arch, facts)
    return wrong + [f"{name} is in the manifest and nowhere else" for name in entries]
