"""The suite must fail when billing has one of the bugs that cost others their money."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.billing.mutation.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Return a copy of the sources that may be spoilt."""
    target = tmp_path_factory.mktemp("mutant")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.py", "*.sql", "*.html", "*.toml", "*.yaml", "*.txt", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def run(copy, tests):
    """Run the fast ones of some tests; what takes minutes must not be needed to see a bug."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    options = ["-qxm", "not slow", "-p", "no:cacheprovider", "--hypothesis-profile=unshrunk"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy,
        capture_output=True,
        text=True,
        env=env | {"PYTHONPATH": str(copy)},
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_every_bug_still_has_its_place(mutant):
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert all((ROOT / test).exists() for test in mutant.tests)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_copy_without_a_bug_passes(copy):
    tests = {test for mutant in MUTANTS for test in mutant.tests}
    done = run(copy, sorted(tests))
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_the_bug_is_caught(copy, mutant):
    place = copy / mutant.file
    whole = place.read_text()
    place.write_text(whole.replace(mutant.old, mutant.new))
    try:
        done = run(copy, mutant.tests)
    finally:
        place.write_text(whole)
    assert done.returncode == 1, done.stdout[-3000:]
