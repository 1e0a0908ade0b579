"""Attention kernels use tensor cores, and no more shared memory than each architecture has."""

import pytest

from kernels import manifest
from kernels.dispatch import ARCHES
from kernels.ops.attention import common, dense

# What one block may have, in bytes (CUDA programming guide, compute capabilities; CDNA3's LDS).
SHARED = {"sm_80": 163, "sm_89": 99, "sm_90": 227, "sm_100": 227, "gfx942": 64}

NO_PRODUCTS = ("/pool", "/select", "/quantise")


def entries(arch):
    kernels = manifest.read()["kernels"].items()
    found = {n: f for n, f in kernels if n.endswith(f"@{arch}") and "attention/" in n}
    assert len(found) >= 8
    return found


@pytest.mark.parametrize("arch", ARCHES)
def test_shared_memory_is_enough(arch):
    assert [n for n, f in entries(arch).items() if f["shared"] > SHARED[arch] * 1024] == []


@pytest.mark.parametrize("arch", ARCHES)
def test_products_run_on_tensor_cores(arch):
    without = {n for n, f in entries(arch).items() if f["matrix"] == 0}
    assert {n for n in without if not n.split("@")[0].endswith(NO_PRODUCTS)} == set()


@pytest.mark.parametrize("model", common.MODELS)
def test_every_model_meets_a_compiled_kernel(model):
    tokens, _, head = common.MODELS[model]
    for keys in (tokens, 512):
        wanted = common.shape_class(head, keys)
        assert wanted in {s.shape_class for s in dense.SPEC.specialisations(32)}
