"""Tuning keeps what gains, never what is wrong, and writes lines that dispatch reads."""

import json

import pytest
import torch

from kernels import dispatch
from kernels.bench import cases, row_cases, tune
from kernels.spec import Config

CPU = torch.device("cpu")
KEY = "gated_residual/D1536/bfloat16/interpreter"


@pytest.fixture
def case():
    found = cases.every(8192)
    return next(c for c in found if c.name.startswith("gated_residual/Wan-1.3B"))


def tuned(case, path, best):
    """Tune with a clock by which the configuration `best` is quicker than all others."""

    def clock(run):
        run()
        return 1.0 if dispatch._table().get(KEY) == best else 2.0

    return list(tune.tune([case], CPU, clock, 60, path))


def test_what_gains_is_written_and_read(case, tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    guessed = dispatch.guess(1536)
    best = [guessed.rows * 2, guessed.warps]
    (line,) = tuned(case, path, best)
    assert f"{best[0]} rows" in line
    assert json.loads(path.read_text())["configs"] == {KEY: best}
    assert KEY not in dispatch._table()
    monkeypatch.setitem(dispatch._table(), KEY, best)
    chosen = dispatch.config("gated_residual", "D1536", 1536, torch.bfloat16, CPU)
    assert chosen == Config(*best)


def test_the_guess_stays_where_nothing_gains(case, tmp_path):
    path = tmp_path / "table.json"
    guessed = dispatch.guess(1536)
    (line,) = tuned(case, path, [guessed.rows, guessed.warps])
    assert "the guess stays" in line
    assert json.loads(path.read_text())["configs"] == {}


def test_what_is_wrong_is_not_taken(case, tmp_path, monkeypatch):
    kernel = row_cases.gate.gated_residual
    guessed = dispatch.guess(1536)
    best = [guessed.rows * 2, guessed.warps]

    def wrong_there(*given):
        return kernel(*given) + (1 if dispatch._table().get(KEY) == best else 0)

    monkeypatch.setattr(row_cases.gate, "gated_residual", wrong_there)
    path = tmp_path / "table.json"
    tuned(case, path, best)
    assert json.loads(path.read_text())["configs"] == {}


def test_a_spent_budget_tries_nothing(case, tmp_path):
    (line,) = tune.tune([case], CPU, lambda _run: 1.0, 0, tmp_path / "table.json")
    assert "not reached" in line
