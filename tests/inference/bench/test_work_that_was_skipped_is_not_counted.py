"""Utilisation is of the work that was done: what a cache skipped was no work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.bench.gpu.cases import FLUX_28, Cell, tiny
from inference.bench.gpu.command import Bench, Report, steps_a_second
from inference.bench.gpu.models import pipeline
from inference.bench.gpu.systems import Marks, Ours
from inference.bench.gpu.work import RowCounter, block_shares, blocks_of, done
from inference.engine.cost import Architecture
from inference.engine.device import pick_device

CACHED = tiny(Cell(case=FLUX_28, system="ours", extra=("first_block_cache",)))


def test_blocks_do_nearly_all_of_the_work() -> None:
    shares = block_shares(Architecture.of_sizes(CACHED.case.sizes), CACHED.case.shape)
    assert all(share > 0 for share in shares.values())
    assert 0.5 < sum(shares.values()) < 1


def test_what_is_skipped_is_taken_off_the_work() -> None:
    shares = {"blocks.0": 0.5, "blocks.1": 0.4}
    assert done(shares, {"blocks.0": 1.0, "blocks.1": 1.0}) == 1
    assert done(shares, {"blocks.0": 1.0, "blocks.1": 0.25}) == pytest.approx(0.7)
    # A library may run a block twice, which is no more work done.
    assert done(shares, {"blocks.0": 2.0, "blocks.1": 0.0}) == pytest.approx(0.6)


def test_a_cache_says_which_blocks_it_ran() -> None:
    device = pick_device()
    built = pipeline(CACHED.case.sizes, device)
    ours = Ours(built, CACHED, device, {"first_block_cache": {"threshold": 0.999}})
    steps = CACHED.case.measured
    ours.draw(CACHED.case, steps, 2)
    run = ours.run()
    assert run is not None
    first, *later = run.values()
    assert first == 1
    # Some steps are skipped, by all blocks alike, but never the first and the last.
    assert len(set(later)) == 1
    assert 2 / steps <= later[0] < 1
    ours.draw(CACHED.case, 1, 1)
    assert set((ours.run() or {}).values()) == {1.0}
    ours.close()


def test_without_a_cache_all_work_is_done(tmp_path: Path) -> None:
    report = Report(head={}, out=tmp_path / "gpu.json")
    plain = tiny(Cell(case=FLUX_28, system="diffusers"))
    Bench(pick_device(), report, "eager", float("inf")).run([plain, CACHED])
    assert not report.skipped
    stock, cached = report.rows
    assert stock["work_done"] == 1
    assert 0 < cached["work_done"] <= 1
    share = cached["work_done"] * stock["tflop_per_step"]
    assert cached["tflop_per_step"] == pytest.approx(share, abs=2e-4)


def test_blocks_of_an_eager_model_are_counted_by_their_rows() -> None:
    denoiser = torch.nn.Module()
    denoiser.blocks = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))
    counter = RowCounter(denoiser)
    blocks = list(blocks_of(denoiser).values())
    blocks[0](torch.ones(3, 4))
    blocks[0](torch.ones(2, 4))
    assert counter.rows == {"blocks.0": 5, "blocks.1": 0}
    counter.reset()
    counter.close()
    blocks[1](torch.ones(3, 4))
    assert counter.rows == {"blocks.0": 0, "blocks.1": 0}


def test_the_first_step_counts_where_steps_differ() -> None:
    marks = [Marks(began=0.0, steps=[4.0, 5.0, 6.0], ended=7.0)]
    assert steps_a_second(CACHED.case, marks, 1.0) == 1
    assert steps_a_second(CACHED.case, marks, 0.5) == 0.5
