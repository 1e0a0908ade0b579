"""Runs tests/kernels/interpreter in a process where Triton interprets its kernels.

Triton decides at its import, and elsewhere in the suite it is imported as it is.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import _triton

pytestmark = pytest.mark.skipif(not _triton.AVAILABLE, reason="Triton is not installed")
HERE = Path(__file__).resolve().parent / "interpreter"
ROOT = HERE.parents[2]


@pytest.mark.timeout(400)
def test_kernels_agree_with_their_references():
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:django"),
            *("-p", "no:cacheprovider", "--import-mode=importlib", f"--confcutdir={HERE}"),
            str(HERE),
        ],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
