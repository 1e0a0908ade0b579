"""An operation meets the eager chain before it is trusted; numbers that overflow prove nothing."""

import pytest
import torch

from kernels import dispatch, trust
from kernels.ops.gated_residual import SPEC


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch):
    monkeypatch.setattr(trust, "_verified", set())
    monkeypatch.setattr(dispatch, "_off", dict(dispatch._off))


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_overflows_is_returned_and_judges_nobody(odd):
    want = torch.tensor([1.0, odd])
    got = trust.run(SPEC, "a shape", lambda: (want + 1,), lambda: (want,))
    assert got[0] is want
    assert SPEC.name not in dispatch._off
    assert not trust.met(SPEC, "a shape")


def test_a_result_that_is_no_number_where_there_should_be_one_switches_off():
    want = torch.ones(2)
    trust.run(SPEC, "a shape", lambda: (want * float("nan"),), lambda: (want,))
    assert SPEC.name in dispatch._off
