"""A month of traffic, faults and kills ends with every rule of the ledger whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def simulate(*options):
    """Run the command as a person does. Returns its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "manage.py", "simulate_month", *map(str, options)],
        cwd=ROOT,
        env=os.environ | {"DEBUG": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def result(output):
    return json.loads(next(line for line in output.splitlines() if line.startswith("{")))


def test_a_small_month_with_faults():
    code, output = simulate("--jobs", 25, "--customers", 4, "--seed", 4, "--faults")
    assert code == 0, output
    found = result(output)
    assert found["broken"] == 0
    assert found["kills"] > 0
    assert found["done"]["PostgreSQL restarted"] == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_months_with_faults(seed):
    code, output = simulate("--jobs", 300, "--customers", 12, "--seed", seed, "--faults")
    assert code == 0, output
    assert result(output)["kills"] > 50


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_process_that_dies_at_every_failpoint_in_turn():
    code, output = simulate("--jobs", 25, "--customers", 4, "--seed", 5, "--exhaust")
    assert code == 0, output
    assert result(output)["kills"] > 300
