"""`python -m kernels bench` and `tune`: rows are whole, wrong results are told, time is kept."""

import csv
import json
import time

import pytest
import torch

from kernels import _triton, dispatch
from kernels.__main__ import main
from kernels.bench import cases, measure, row_cases, whole
from kernels.bench.tune import candidates
from kernels.cpu import compiled
from kernels.registry import REGISTRY
from kernels.spec import Config
from tests.kernels import models

CPU = torch.device("cpu")


@pytest.fixture
def case():
    return next(c for c in cases.every(1024) if c.name.startswith("gated_residual/FLUX"))


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", ["bench", "tune"])
def test_without_a_gpu_it_says_so_in_a_line(command, capsys, tmp_path):
    assert main([command, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert said.err == "error: there is no GPU here (--device cpu tries the bench itself)\n"
    assert said.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(_triton.INTERPRETED, reason="Triton's interpreter runs there")
def test_a_cpu_is_tuned_against_the_chains_of_the_models_that_ship(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "has_compiler", lambda: False)  # no time for it
    monkeypatch.setenv("KERNELS_COMPILE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "_ready", {})
    out = tmp_path / "table.json"
    assert main(["tune", "--device", "cpu", "--out", str(out), "--only", "decoder/1x64x1"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text().splitlines()]
    assert {row["op"] for row in rows} == {"group_norm_silu", "rms_norm_silu"}
    assert {row["way"] for row in rows} == {"reference", "fused"}
    for row in rows:
        assert 0 < row["ratio_p10"] <= row["ratio"] <= row["ratio_p90"]
        assert "wrong" not in row
        assert row["torch"] == torch.__version__
    for line, steps in json.loads(out.read_text())["ways"].items():
        assert line in {row["line"] for row in rows}
        assert all(ways in ([], ["fused"]) for _, ways in steps)
    assert "eager" in capsys.readouterr().out


def test_rows_are_whole_and_are_appended(tmp_path, capsys):
    out = tmp_path / "results.csv"
    command = ["bench", "--device", "cpu", "--quick", "--out", str(out)]
    assert main([*command, "--only", "SDXL"]) == 0
    rows = read(out)
    assert list(rows[0]) == measure.COLUMNS
    assert {row["by"] for row in rows} == {"ours", "eager"}
    assert {row["op"] for row in rows} == {
        "norm",
        "gated_activation",
        "group_norm_silu",
        "linear",
        "attention",
    }
    for row in rows:
        assert row["ok"] == "True"
        assert float(row["microseconds"]) > 0
        # Of a small case the share may round to 0.0; what it is the share of may not.
        assert max(float(row["gb_s"]), float(row["tflop_s"])) > 0
        assert float(row["copy_gb_s"]) > 0
        assert float(row["matmul_tflop_s"]) > 0
        assert row["torch"] == torch.__version__
        assert "1/64 of the rows" in row["note"]
    assert "copies" in capsys.readouterr().out
    assert main([*command, "--only", "gated_activation"]) == 0
    assert len(read(out)) > len(rows)
    assert out.read_text().count("when,") == 1


def test_a_directory_without_a_pipeline_is_refused(tmp_path, capsys):
    assert main(["whole", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "has no model_index.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_whole_model_mounted_is_timed_against_itself(monkeypatch):
    monkeypatch.setattr(whole, "ROUNDS", 3)
    model, _ = models.flux()
    given = whole.PASSES["FluxTransformer2DModel"](model.config, 2, 3, torch.float32)
    with torch.inference_mode():
        row = whole.compare(model, lambda m: m(**given, return_dict=False)[0], "exact")
    assert row["equal"]
    assert row["sites"] > 0
    assert 0 < row["ratio_p10"] <= row["ratio"] <= row["ratio_p90"]


@pytest.mark.timeout(300)
def test_all_of_it_runs_through_on_a_cpu_and_says_what_stood_in(tmp_path, capsys):
    out = tmp_path / "results.csv"
    assert main(["bench", "--device", "cpu", "--quick", "--out", str(out)]) == 0
    rows = read(out)
    assert {row["op"] for row in rows} == {c.spec.name for c in cases.every()}
    assert len(rows) == 2 * len(list(cases.every()))
    assert all(row["ok"] == "True" for row in rows)
    assert all("reference" in row["note"] for row in rows if row["by"] == "ours")
    said = capsys.readouterr().out
    assert "TFLOP/s" in said
    assert "dense: all of the work" in said


def test_a_budget_that_is_spent_begins_nothing_new(tmp_path, capsys):
    began = time.monotonic()
    out = tmp_path / "results.csv"
    assert main(["bench", "--device", "cpu", "--budget", "0", "--out", str(out)]) == 0
    assert time.monotonic() - began < 30
    assert not out.exists()
    assert capsys.readouterr().out.count("not measured within the budget") >= 2 * 16


def test_every_shape_that_was_asked_for_is_there():
    found = {(c.spec.name, c.model, *c.shape) for c in cases.every()}
    for op in REGISTRY:
        assert op in {name for name, *_ in found} | {"lora_linear"}
    for model, rows, width in (("Wan-1.3B", 32760, 1536), ("FLUX", 4608, 3072)):
        for op in ("norm", "gated_residual", "gated_residual_norm", "qk_norm_rope"):
            assert (op, model, rows, width) in found
    names = [c.name for c in cases.every()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", list(cases.every(1024)), ids=lambda c: c.name)
def test_each_case_agrees_with_its_eager_chain(case):
    assert measure.difference(case, case.ours, CPU)[0]
    assert measure.difference(case, case.eager, CPU, "eager")[0]


def test_places_that_were_not_written_are_found_out(case):
    def lazy(residual, y, gate):
        out = torch.empty_like(residual)
        out[..., 1:] = (residual + gate * y)[..., 1:]
        return out

    ok, error = measure.difference(case, lazy, CPU)
    assert not ok
    assert error != error  # what was not written is NaN
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_wrong_result_of_ours_fails_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(row_cases.gate, "gated_residual", lambda r, y, g, _kind: r + g * y + 1e-2)
    out = tmp_path / "results.csv"
    command = ["bench", "--device", "cpu", "--out", str(out), "--quick"]
    assert main([*command, "--only", "gated_residual/FLUX"]) == 1
    assert "1 of our results are wrong" in capsys.readouterr().err
    assert [row["ok"] for row in read(out) if row["by"] == "ours"] == ["False"]


def test_a_rival_that_fails_has_a_row_that_says_why(case):
    def broken(*_given):
        raise RuntimeError("no such device")

    row = measure.Bench(CPU, 10).row(case, "liger", broken)
    assert (row.ok, row.microseconds) == (False, 0)
    assert "no such device" in row.note


def test_candidates_begin_with_the_guess_and_stay_near_it():
    found = candidates(Config(2, 4))
    assert found[0] == Config(2, 4)
    assert set(found) == {Config(r, w) for r in (1, 2, 4) for w in (2, 4, 8)}
    assert dispatch.TABLE.name == "table.json"


@pytest.mark.parametrize(
    "wrong",
    [
        ["bench", "--budget", "-1"],
        ["bench", "--budget", "nan"],
        ["tune", "--budget", "soon"],
        ["manifest", "--check", "--sample", "-3"],
        ["manifest", "--sample", "25"],
    ],
    ids=str,
)
def test_a_number_that_makes_no_sense_is_refused_by_its_option(wrong, capsys):
    with pytest.raises(SystemExit) as refused:
        main(wrong)
    assert refused.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["bench", "tune"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    command, tmp_path, capsys
):
    for place in (tmp_path, tmp_path / "absent" / "out"):
        assert main([command, "--device", "cpu", "--out", str(place)]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == f"error: {place} is no file that can be written\n"
