"""The committed table says which way a call takes; what is not in it takes the reference."""

import json

import pytest
import torch

from kernels.cpu import calls, table
from kernels.cpu.register import OPERATIONS

NORM = (None, None, torch.ones(2, 1, 128), torch.ones(2, 1, 128), 1e-6, "layer", "norm")


def given(rows, width=128, dtype=torch.float32):
    return torch.randn(2, rows, width).to(dtype), *NORM


@pytest.fixture
def one_line(monkeypatch):
    line = table.line_of("norm", given(64))
    monkeypatch.setattr(table, "lines", lambda: {line: [[15, ["fused"]], [18, ["compiled"]]]})


def test_the_committed_table_names_ways_that_there_are():
    lines = json.loads(table.TABLE.read_text())["ways"]
    assert lines, "nothing was measured"
    for name, steps in lines.items():
        assert name.split("/")[0] in OPERATIONS
        assert [size for size, _ in steps] == sorted({size for size, _ in steps})
        for _, ways in steps:
            assert set(ways) <= set(table.WAYS) - {"reference"}
            assert "compiled" not in ways[1:]


def test_exact_operations_are_not_compiled_where_the_compiler_leaves_roundings_out():
    lines = json.loads(table.TABLE.read_text())["ways"]
    halves = [n for n in lines if n.startswith("gated_residual/") and "/float32/" not in n]
    assert all("-end/" in name for name in halves)


def test_a_size_takes_what_was_measured_at_the_next_one_below(one_line):
    assert table.ways("norm", given(32)) == ()  # 2**13 elements, fewer than were measured
    assert table.ways("norm", given(64)) == ("fused",)
    assert table.ways("norm", given(400)) == ("fused",)
    assert table.ways("norm", given(4000)) == ("compiled",)


def test_another_dtype_or_option_was_not_measured(one_line):
    assert table.ways("norm", given(64, dtype=torch.bfloat16)) == ()
    x, *rest = given(64)
    assert table.ways("norm", (x, *rest[:-2], "rms", "norm")) == ()


def test_calls_that_differ_in_rows_share_code_and_others_do_not():
    assert calls.key_of("norm", given(100)) == calls.key_of("norm", given(200))
    assert calls.key_of("norm", given(100)) != calls.key_of("norm", given(100, width=64))
    assert calls.key_of("norm", given(100)) != calls.key_of("norm", given(1))
    assert calls.key_of("norm", given(100)) != calls.key_of("norm", given(10_000))  # more threads
    x, *rest = given(100)
    assert calls.key_of("norm", given(100)) == calls.key_of("norm", (x, *rest, x.dtype))
    assert calls.key_of("norm", given(100)) != calls.key_of("norm", (x, *rest, torch.float16))
    assert calls.key_of("norm", (x.transpose(0, 1), *rest)) is None  # in no order that is compiled


def test_weights_are_never_open_in_size():
    x, weight = torch.ones(8, 32, dtype=torch.int8), torch.ones(16, 32, dtype=torch.int8)
    key = calls.key_of(
        "w8a8_linear", (x, torch.ones(8), weight, torch.ones(16), None, "none", torch.float32)
    )
    sizes = [part[2] for part in key if isinstance(part, tuple)]
    assert sizes == [(0, 32), (0,), (16, 32), (16,)]
