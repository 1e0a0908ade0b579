"""Compiles kernels for GPUs that are not there, and reads what the compilers made of them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernels._triton import triton
from kernels.dispatch import ARCHES
from kernels.registry import REGISTRY
from kernels.spec import Specialisation

# How each architecture's tensor-core instruction reads in the compiler's text, by type of factors.
# Triton has no tcgen05 of int8: on sm_100 it gives the instruction of sm_80.
_SYNC_INT8 = r"mma\.sync\S*\.s8\.s8"
MATRIX_INSTRUCTIONS = {
    "sm_80": {
        "bf16": r"mma\.sync\S*\.bf16\.bf16",
        "fp16": r"mma\.sync\S*\.f16\.f16",
        "int8": _SYNC_INT8,
    },
    "sm_89": {
        "bf16": r"mma\.sync\S*\.bf16\.bf16",
        "fp16": r"mma\.sync\S*\.f16\.f16",
        "int8": _SYNC_INT8,
        "fp8": r"mma\.sync\S*\.e4m3\.e4m3",
    },
    "sm_90": {
        "bf16": r"wgmma\.mma_async\S*\.bf16\.bf16",
        "fp16": r"wgmma\.mma_async\S*\.f16\.f16",
        "int8": r"wgmma\.mma_async\S*\.s8\.s8",
        "fp8": r"wgmma\.mma_async\S*\.e4m3\.e4m3",
    },
    "sm_100": {
        "bf16": r"tcgen05\.mma\S*kind::f16",
        "fp16": r"tcgen05\.mma\S*kind::f16",
        "int8": _SYNC_INT8,
        "fp8": r"tcgen05\.mma\S*kind::f8f6f4",
    },
    "gfx942": {
        "bf16": r"v_mfma_f32_\S*bf16",
        "fp16": r"v_mfma_f32_\S*_f16",
        "int8": r"v_mfma_i32_\S*i8",
    },
}
# Bytes of shared memory that one block may have: the driver refuses more at the launch.
SHARED = {
    "sm_80": 163 * 1024,
    "sm_89": 99 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    "gfx942": 64 * 1024,
}


def warp_size(arch: str) -> int:
    """Threads that run in step on `arch`."""
    return 64 if arch.startswith("gfx") else 32


def every() -> Iterator[tuple[Specialisation, str]]:
    """Every specialisation with every architecture that it is compiled for."""
    for spec in REGISTRY.values():
        for arch in ARCHES:
            for specialisation in spec.specialisations(warp_size(arch)):
                if not specialisation.arches or arch in specialisation.arches:
                    yield specialisation, arch


def _sources(function: Any, found: dict[str, str]) -> dict[str, str]:
    """Collect the source of `function` and of the kernels it calls, by name."""
    if function.__name__ in found:
        return found
    found[function.__name__] = function.src
    for name in re.findall(r"\w+", function.src):
        callee = function.fn.__globals__.get(name)
        if isinstance(callee, triton.JITFunction):
            _sources(callee, found)
    return found


def content_hash(specialisation: Specialisation, arch: str) -> str:
    """Hash all that the compiled code depends on but the version of the compiler."""
    parts = [
        sorted(_sources(specialisation.kernel, {}).items()),
        sorted(specialisation.signature.items()),
        sorted(specialisation.constants.items()),
        specialisation.aligned,
        [specialisation.warps, specialisation.stages, specialisation.fp_fusion, arch],
        [MATRIX_INSTRUCTIONS[arch][specialisation.factors]] if specialisation.dot else [],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def compile_for(specialisation: Specialisation, arch: str) -> dict[str, Any]:
    """Compile and return registers per thread, spilled bytes, shared bytes, loads, instruction.

    Raises triton.CompilationError where the kernel does not compile for `arch`.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = specialisation.kernel
    target = (
        GPUTarget("hip", arch, 64)
        if arch.startswith("gfx")
        else GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)
    )
    source = ASTSource(
        kernel,
        {name: specialisation.signature.get(name, "constexpr") for name in kernel.arg_names},
        constexprs=dict(specialisation.constants),
        attrs={
            (kernel.arg_names.index(name),): [["tt.divisibility", 16]]
            for name in specialisation.aligned
        },
    )
    options = {
        "num_warps": specialisation.warps,
        "num_stages": specialisation.stages,
        "enable_fp_fusion": specialisation.fp_fusion,
    }
    compiled = triton.compile(source, target=target, options=options)
    dot = specialisation.dot
    facts = _amd_facts(compiled) if target.backend == "hip" else _nvidia_facts(compiled, dot)
    facts["shared"] = int(compiled.metadata.shared)
    text = compiled.asm["amdgcn" if target.backend == "hip" else "ptx"]
    instruction = MATRIX_INSTRUCTIONS[arch][specialisation.factors]
    facts["matrix"] = len(re.findall(instruction, text))
    return facts


def _nvidia_facts(compiled: Any, dot: bool) -> dict[str, Any]:
    # To disassemble a product's kernel takes ten times as long as to compile it.
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(tool), *([] if dot else ["-sass"]), "-res-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    usage = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    if usage is None:
        raise RuntimeError(f"{tool} told nothing of the resources used")
    registers, stack, local = map(int, usage.groups())
    if dot:
        text, wide = compiled.asm["ptx"], r"cp\.async\.cg\S* .*, 0x10,|ld\.global\S*\.v4\."
    else:
        wide = r"\bLDG\.E(?:\.\w+)*\.128"
    return {
        "registers": registers,
        "spilled": stack + local,
        "wide_loads": len(re.findall(wide, text)),
    }


def _amd_facts(compiled: Any) -> dict[str, Any]:
    text = compiled.asm["amdgcn"]

    def count(key: str) -> int:
        found = re.search(rf"\.{key}:\s+(\d+)", text)
        return int(found.group(1)) if found else 0

    return {
        "registers": count("vgpr_count"),
        "spilled": 4 * (count("vgpr_spill_count") + count("sgpr_spill_count"))
        + count("private_segment_fixed_size"),
        "wide_loads": len(re.findall(r"(?:buffer|global)_load_dwordx4", text)),
    }


def faults(specialisation: Specialisation, arch: str, facts: dict[str, Any]) -> list[str]:
    """Say what is wrong with compiled code.

    That is spills, shared memory beyond what there is, or products without tensor cores.
    """
    name = f"{specialisation.name} on {arch}"
    wrong = []
    if facts["spilled"]:
        wrong.append(f"{name} spills {facts['spilled']} bytes")
    if facts["shared"] > SHARED[arch]:
        wrong.append(f"{name} wants {facts['shared']} shared bytes of {SHARED[arch]}")
    if specialisation.dot and not facts["matrix"]:
        wrong.append(f"{name} has no {MATRIX_INSTRUCTIONS[arch][specialisation.factors]}")
    return wrong
