"""The gate itself, on a few prompts: real pictures, a real judge, a file that can be read back."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.inference.process import ROOT, bare_environment


def run_inference(
    *arguments: str, timeout: float = 100, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "inference", *arguments],
        cwd=ROOT, env={**bare_environment(), "OMP_WAIT_POLICY": "PASSIVE", **env},
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_gate_writes_figures_of_each_variant(tmp_path: Path) -> None:
    out = tmp_path / "quality-cpu.json"
    done = run_inference(
        "quality", "--prompts", "6", "--model", "starter-image", "--only", "channels_last",
        "taylor", "--out", str(out), timeout=1180, ENGINE_COMPILE="0",
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    results = json.loads(out.read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == results
    rows = {row["variant"]: row for row in results["models"][0]["rows"]}
    assert rows["plain, 8 steps"]["psnr_db"] == 60
    assert rows["plain, 2 steps"]["psnr_db"] < rows["plain, 7 steps"]["psnr_db"] < 60
    assert rows["channels_last"]["psnr_db"] > 48
    assert rows["plain, 4 steps"]["gflop"] < 0.7 * rows["plain, 8 steps"]["gflop"]
    assert rows["taylor"]["gflop"] < rows["plain, 8 steps"]["gflop"]
    ET.parse(tmp_path / "quality-cpu-starter-image.svg")


def test_a_model_that_is_not_there_is_said_in_one_line() -> None:
    done = run_inference("quality", "--model", "nonesuch")
    assert done.returncode == 1
    assert "nonesuch" in done.stderr
    assert "Traceback" not in done.stderr
