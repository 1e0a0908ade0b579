"""The pytest plugin that gives every run its own real PostgreSQL and Valkey.

Loaded with `-p tests.postgres`, because it must act before pytest-django reads the settings.
The process that was started by hand (with xdist: the controller) starts both servers in a
temporary directory and stops them at the end, however it ends. xdist's workers inherit the
addresses; each has a PostgreSQL database and a Valkey database number of its own. Addresses
already in the environment are overridden: tests never touch a market that somebody uses.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from marketplace.local.postgres import SETTINGS_FOR_TESTS, PostgresServer
from marketplace.local.processes import LocalError
from marketplace.local.valkey import ValkeyServer

VALKEY_DATABASES = 16


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Start the servers before any other plugin acts on the configuration."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        _start()
    else:
        number = int(worker.removeprefix("gw")) % VALKEY_DATABASES
        _export_valkey(os.environ["VALKEY_URL"].rpartition("/")[0], number)
    yield


@pytest.fixture
def var_dir() -> Iterator[Path]:
    """A fresh directory for servers' data.

    Not `tmp_path`: started by root, PostgreSQL runs as another user, and any other pytest that
    starts meanwhile closes pytest's own directory to other users.
    """
    path = Path(tempfile.mkdtemp(prefix="mercato-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _start() -> None:
    home = Path(tempfile.mkdtemp(prefix="mercato-test-"))
    postgres = PostgresServer(home / "postgres", settings=SETTINGS_FOR_TESTS)
    valkey = ValkeyServer(home / "valkey", durable=False)
    # At exit, not in pytest_unconfigure: that hook is skipped when another plugin fails early.
    atexit.register(_stop, postgres, valkey, home)
    try:
        postgres.start()
        valkey.start()
    except LocalError as error:
        raise pytest.UsageError(f"{error}\n{error.detail}") from error
    for name in [name for name in os.environ if name.startswith(("STRIPE_", "S3_"))]:
        del os.environ[name]
    os.environ["DATABASE_URL"] = postgres.url
    os.environ["VAR_DIR"] = str(home / "var")
    (home / "var" / "static").mkdir(parents=True)  # whitenoise warns when it is not there
    os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 40)
    _export_valkey(valkey.url.rpartition("/")[0], 0)


def _stop(postgres: PostgresServer, valkey: ValkeyServer, home: Path) -> None:
    valkey.stop()
    postgres.stop()
    shutil.rmtree(home, ignore_errors=True)


def _export_valkey(server: str, number: int) -> None:
    os.environ["BROKER_URL"] = os.environ["VALKEY_URL"] = f"{server}/{number}"
