"""The committed manifest is what the code compiles to, for each architecture, without a GPU."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import _triton, aot, manifest
from kernels.dispatch import ARCHES
from kernels.registry import REGISTRY

pytestmark = pytest.mark.skipif(not _triton.AVAILABLE, reason="Triton is not installed")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(400)
def test_the_manifest_is_fresh_and_a_sample_compiles_to_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "kernels", "manifest", "--check", "--sample", "25"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_every_operation_is_there_for_every_architecture():
    names = set(manifest.read()["kernels"])
    for op in REGISTRY:
        for arch in ARCHES:
            assert any(n.startswith(f"{op}/") and n.endswith(f"@{arch}") for n in names), (op, arch)


def test_nothing_spills():
    spilling = [n for n, facts in manifest.read()["kernels"].items() if facts["spilled"]]
    assert spilling == []


def test_nvidia_kernels_load_16_bytes_at_a_time():
    narrow = [
        name
        for name, facts in manifest.read()["kernels"].items()
        if "@sm_" in name and not facts["wide_loads"] and "/join-" not in name  # a few partial sums
    ]
    assert narrow == []


def test_products_use_the_tensor_cores_of_each_architecture_in_the_type_of_their_factors():
    entries = manifest.read()["kernels"]
    found = {
        (specialisation.factors, arch)
        for specialisation, arch in aot.every()
        if specialisation.dot and entries[f"{specialisation.name}@{arch}"]["matrix"] > 0
    }
    every = {(kind, arch) for arch, kinds in aot.MATRIX_INSTRUCTIONS.items() for kind in kinds}
    assert found == every


@pytest.mark.parametrize("arch", ["sm_80", "gfx942"])
def test_a_product_without_tensor_cores_is_a_fault(arch):
    one = next(
        specialisation
        for specialisation, its_arch in aot.every()
        if specialisation.op == "quantise_rows" and its_arch == arch
    )
    pretends = dataclasses.replace(one, dot=True, factors="int8")
    wrong = aot.faults(pretends, arch, aot.compile_for(pretends, arch))
    assert wrong == [f"{one.name} on {arch} has no {aot.MATRIX_INSTRUCTIONS[arch]['int8']}"]


def test_too_much_shared_memory_is_a_fault():
    one, arch = next((s, a) for s, a in aot.every() if a == "sm_89" and s.dot)
    facts = {"spilled": 0, "matrix": 1, "shared": 99 * 1024}
    assert aot.faults(one, arch, facts) == []
    assert "shared bytes" in aot.faults(one, arch, facts | {"shared": 99 * 1024 + 1})[0]


def test_a_changed_kernel_makes_the_manifest_stale(tmp_path, monkeypatch):
    document = manifest.read()
    name = next(iter(document["kernels"]))
    document["kernels"][name]["hash"] = "0" * 16
    document["kernels"]["gone/D1/float32/x@sm_90"] = {"hash": "", "spilled": 0}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(document))
    monkeypatch.setattr(manifest, "PATH", path)
    wrong = manifest.check(0)
    assert len(wrong) == 2
    assert wrong[0].startswith(f"{name} is not in the manifest")
    assert "nowhere else" in wrong[1]
