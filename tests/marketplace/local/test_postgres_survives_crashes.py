"""The embedded PostgreSQL starts, stops, and keeps committed rows through kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from marketplace.local.postgres import PostgresServer
from marketplace.local.processes import LocalError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path / "postgres")
    server.start()
    yield server
    server.stop()


def execute(server: PostgresServer, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(query)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def test_a_committed_row_survives_kill_and_restart(server: PostgresServer) -> None:
    execute(server, "CREATE TABLE kept AS SELECT 7 AS a")
    server.kill()
    assert not server.is_running()
    assert (server.data / "postmaster.pid").exists()
    server.start()
    assert execute(server, "SELECT a FROM kept") == [(7,)]
    server.restart()
    assert execute(server, "SELECT a FROM kept") == [(7,)]


def test_commits_are_durable_and_the_database_speaks_utf8(server: PostgresServer) -> None:
    names = (
        "fsync",
        "synchronous_commit",
        "full_page_writes",
        "server_encoding",
        "max_connections",
    )
    values = [execute(server, f"SHOW {name}")[0][0] for name in names]
    assert values == ["on", "on", "on", "UTF8", "120"]
    assert execute(server, "SELECT upper('é')") == [("É",)]


def test_a_pid_file_that_names_another_live_process_is_stale(server: PostgresServer) -> None:
    execute(server, "CREATE TABLE kept AS SELECT 7 AS a")
    server.kill()
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    sleeper = subprocess.Popen(["sleep", "60"], user=server.data.stat().st_uid)
    try:
        pid_file.write_text("\n".join([str(sleeper.pid), *lines[1:]]) + "\n")
        server.start()
        assert execute(server, "SELECT a FROM kept") == [(7,)]
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_the_server_goes_down_cleanly_when_its_owner_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path;"
        "from marketplace.local.postgres import PostgresServer;"
        "server = PostgresServer(Path(sys.argv[1])); server.start();"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    data = tmp_path / "postgres"
    argv = [sys.executable, "-c", script, str(data)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server_process = psutil.Process(int(owner.stdout.readline()))
        os.kill(owner.pid, signal.SIGKILL)
    server_process.wait(10)
    assert not (data / "postmaster.pid").exists()
    assert "database system is shut down" in (tmp_path / "postgres.log").read_text()


def test_a_second_start_takes_over_what_a_killed_owner_left(server: PostgresServer) -> None:
    first_pid = server.pid
    successor = PostgresServer(server.data)
    successor.start()
    try:
        assert successor.pid != first_pid
        assert not server.is_running()
        assert execute(successor, "SELECT 1") == [(1,)]
    finally:
        successor.stop()


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / ("long" * 20) / "with space" / "postgres")
    server.start()
    try:
        assert server.socket_dir != server.data
        assert execute(server, "SELECT 1") == [(1,)]
    finally:
        server.stop()


def test_a_directory_with_foreign_files_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "thesis.txt").write_text("mine")
    with pytest.raises(LocalError, match="is not empty"):
        PostgresServer(tmp_path / "postgres").start()
    assert [p.name for p in (tmp_path / "postgres").iterdir()] == ["thesis.txt"]


def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(LocalError, match="made by PostgreSQL 16"):
        PostgresServer(tmp_path / "postgres").start()
