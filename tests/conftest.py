"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def var_dir() -> Iterator[Path]:
    """A fresh directory for servers' data.

    Not `tmp_path`: started by root, PostgreSQL runs as another user, and any other pytest that
    starts meanwhile closes pytest's own directory to other users.
    """
    path = Path(tempfile.mkdtemp(prefix="mercato-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
