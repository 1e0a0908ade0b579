"""The GPU benchmark runs whole at tiny sizes, keeps to its budget, and loses nothing if cut off."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.bench.gpu import command
from inference.bench.gpu.cases import CASES, FLUX_16, FLUX_28, WAN_50, Cell, cells, tiny
from inference.bench.gpu.command import Bench, Report, describe, step_seconds
from inference.bench.gpu.models import pipeline
from inference.bench.gpu.systems import Marks, Ours
from inference.engine.device import pick_device
from inference.engine.optimisation_specs import Needs
from inference.engine.optimise import REGISTRY

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Call the command as its user does and return its exit status and what it wrote."""

    def call(*given: str) -> tuple[int, dict[str, Any]]:
        out = tmp_path / "gpu.json"
        parser = argparse.ArgumentParser()
        command.add_command(parser.add_subparsers())
        arguments = parser.parse_args(["gpu-bench", "--quiet", "--out", str(out), *given])
        code: int = arguments.command(arguments)
        return code, json.loads(out.read_text()) if out.exists() else {}

    return call


@pytest.mark.slow
@pytest.mark.timeout(600)  # compiles
def test_a_case_runs_in_every_system_and_says_what_it_measured(run: Run) -> None:
    code, told = run("--tiny", "--only", "flux-1024-4", "wan2.1-480p-50")
    assert code == 0
    assert told["finished"]
    assert not told["skipped"]
    assert {"device", "versions", "commit", "budget_s"} <= set(told)
    rows = {row["cell"]: row for row in told["rows"]}
    assert {row["system"] for row in rows.values()} == {"diffusers", "compile", "ours"}
    for row in rows.values():
        assert row["ms_per_step"] > 0
        assert row["decode_s"] > 0
        assert 0 < row["mfu"] < 1
        assert row["vs_diffusers"] > 0
        assert row["text"].startswith("random embeddings")
    assert rows["wan2.1-480p-50: diffusers"]["vs_diffusers"] == 1
    assert rows["wan2.1-480p-50: diffusers"]["extrapolated"]
    assert not rows["flux-1024-4: diffusers"]["extrapolated"]
    assert rows["flux-1024-4: ours fast"]["on"]


@pytest.mark.slow
def test_ours_says_what_is_on(run: Run) -> None:
    _, told = run("--tiny", "--only", "flux-1024-4: diffusers", "flux-1024-4: ours exact")
    stock, ours = told["rows"]
    assert stock["vs_diffusers"] == 1
    assert ours["vs_diffusers"] > 0
    assert "channels_last" in ours["on"]
    assert stock["on"] == []


@pytest.mark.slow
def test_many_at_once_share_passes_with_us_only(run: Run) -> None:
    _, told = run("--tiny", "--only", "flux-512-16-at-once")
    stock, ours, bounded = told["rows"][:3]
    assert (stock["system"], ours["system"]) == ("diffusers", "ours")
    assert stock["concurrency"] == ours["concurrency"] == 16
    assert (ours["batch_tokens"], bounded["batch_tokens"]) == (None, 8192)


@pytest.mark.slow
def test_a_model_without_transformer_runs_too(run: Run) -> None:
    code, told = run("--tiny", "--only", "sdxl-1024-30: ours exact")
    assert code == 0
    assert told["rows"][0]["guided"]


def test_what_does_not_fit_the_budget_is_named_and_left_out(run: Run) -> None:
    code, told = run("--tiny", "--budget", "0", "--only", "diffusers")
    assert code == 1
    assert told["rows"] == []
    assert "of the budget are left" in told["skipped"][0]["why"]


def test_a_run_that_was_cut_off_goes_on(run: Run) -> None:
    _, first = run("--tiny", "--only", "flux-1024-4: diffusers")
    _, both = run("--tiny", "--resume", "--only", "flux-1024-4: diffusers", "flux-1024-4: compile")
    assert [row["system"] for row in both["rows"]] == ["diffusers", "compile"]
    assert both["rows"][0] == first["rows"][0]


def test_a_file_of_something_else_is_not_gone_on_with(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gpu.json").write_text("[]")
    code, _ = run("--tiny", "--resume")
    assert code == 2
    assert "is no file of this benchmark" in capsys.readouterr().err


def test_a_name_that_is_none_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--tiny", "--only", "sora")[0] == 2
    assert "nothing is called sora; cases are flux-1024-28" in capsys.readouterr().err


@pytest.mark.skipif(pick_device().device.type == "cuda", reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run()[0] == 2
    assert "there is no CUDA device" in capsys.readouterr().err


def test_a_cell_that_fails_is_named_and_the_next_one_runs(tmp_path: Path) -> None:
    report = Report(head={}, out=tmp_path / "gpu.json")
    bad = tiny(Cell(case=FLUX_28, system="ours", extra=("magic",)))
    good = tiny(Cell(case=FLUX_28, system="diffusers"))
    Bench(pick_device(), report, "eager", float("inf")).run([bad, good])
    told = json.loads((tmp_path / "gpu.json").read_text())
    assert "magic is unknown" in told["skipped"][0]["why"]
    assert [row["system"] for row in told["rows"]] == ["diffusers"]


def test_what_is_compiled_in_the_background_is_there_before_it_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a CPU it says that it is for CUDA devices; all but inductor's code runs here too.
    fits = dataclasses.replace(REGISTRY["compile_regional"], needs=Needs(), lacks=lambda _: None)
    monkeypatch.setitem(REGISTRY, "compile_regional", fits)
    device, cell = pick_device(), tiny(Cell(case=FLUX_16, system="ours"))
    ours = Ours(
        pipeline(cell.case.sizes, device), cell, device, {"compile_regional": {"backend": "eager"}}
    )
    ours.warm(cell.case)
    assert "compile_regional" in ours.mounted
    (compiled,) = ours.loaded.builders
    ready = set(compiled.ready)
    assert ready
    ours.draw(cell.case, cell.case.measured, cell.case.concurrency)
    assert compiled.ready == ready
    ours.close()


def test_every_case_begins_with_the_stock_pipeline() -> None:
    for case in CASES:
        systems = [cell.system for cell in cells() if cell.case == case]
        assert systems[0] == "diffusers"
        assert "ours" in systems


def test_a_long_request_is_extrapolated_from_its_measured_steps() -> None:
    marks = [Marks(began=1.0, steps=[3.0, 5.0, 7.0, 9.0], ended=12.0)]
    row = describe(Cell(case=WAN_50, system="diffusers"), marks)
    assert row["ms_per_step"] == 2000
    assert row["denoise_s"] == 100
    assert row["decode_s"] == 3
    assert row["e2e_s"] == 103


def test_steps_of_requests_that_take_turns_are_counted_together() -> None:
    marks = [Marks(began=0.0, steps=[1, 2, 3, 4], ended=5), Marks(began=5, steps=[8], ended=9)]
    assert step_seconds(FLUX_16, marks) == 2
    assert describe(Cell(case=FLUX_16, system="diffusers"), marks)["e2e_s"] == 9
