"""Every model at hand meets attention kernels that were compiled ahead of time."""

import pytest

from kernels.ops.attention import common, dense


@pytest.mark.parametrize("model", common.MODELS)
def test_every_model_meets_a_compiled_kernel(model):
    tokens, _, head = common.MODELS[model]
    for keys in (tokens, 512):
        wanted = common.shape_class(head, keys)
        assert wanted in {s.shape_class for s in dense.SPEC.specialisations(32)}
