"""`make manage` runs manage.py on the market of this folder; bare, manage.py says how."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from marketplace.local.environment import REPOSITORY, secret_key
from marketplace.local.lock import RunLock
from marketplace.local.manage import local_environment

URL = "http://127.0.0.1:8123"


def test_it_has_what_the_runner_gives_to_its_processes(tmp_path: Path) -> None:
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "port").write_text("6399\n")
    own = local_environment(tmp_path, URL, {})
    assert own["SECRET_KEY"] == secret_key(tmp_path)
    assert str(tmp_path / "postgres") in own["DATABASE_URL"]
    assert own["VALKEY_URL"] == own["BROKER_URL"] == "redis://127.0.0.1:6399/0"
    assert (own["PUBLIC_URL"], own["LOCAL_STACK"]) == (URL, "1")


def test_what_the_environment_names_goes_first(tmp_path: Path) -> None:
    given = {"SECRET_KEY": "k", "DATABASE_URL": "postgres://db", "PUBLIC_URL": "https://m.example"}
    own = local_environment(tmp_path, URL, given)
    assert not own.keys() & (given.keys() | {"LOCAL_STACK", "BROKER_URL"})


def test_the_lock_tells_where_the_market_is_only_while_it_runs(tmp_path: Path) -> None:
    lock, reader = RunLock(tmp_path / "run.lock"), RunLock(tmp_path / "run.lock")
    assert reader.holder_url() is None
    lock.acquire(URL)
    assert reader.holder_url() == URL
    lock.release()
    assert reader.holder_url() is None


def test_a_bare_command_without_settings_is_refused_in_two_lines() -> None:
    env = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    argv = [sys.executable, "manage.py", "close_month", "--dry-run"]
    ended = subprocess.run(argv, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "error: SECRET_KEY is not set, and DEBUG is off.",
        "For the market of `make run`: make manage DO='close_month --dry-run'",
    ]
