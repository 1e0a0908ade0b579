"""The embedded PostgreSQL starts, stops, and keeps committed rows through kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from marketplace.local.postgres import PostgresServer
from marketplace.local.processes import LocalError


@pytest.fixture
def server(var_dir: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(var_dir / "postgres")
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


def test_it_waits_for_a_session_that_outlives_the_killed_server(server: PostgresServer) -> None:
    busy = psycopg.connect(server.url, autocommit=True)
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 10000000) a WHERE a % 7 = 3")
    session = psutil.Process(busy.info.backend_pid)
    time.sleep(0.2)
    server.kill()
    assert session.is_running()
    server.start()
    assert not session.is_running() or session.status() == psutil.STATUS_ZOMBIE
    assert execute(server, "SELECT 1") == [(1,)]


def test_an_empty_pid_file_does_not_stop_the_start(server: PostgresServer) -> None:
    server.stop()
    (server.data / "postmaster.pid").write_text("")
    server.start()
    assert execute(server, "SELECT 1") == [(1,)]


def test_the_server_goes_down_cleanly_when_its_owner_is_killed(var_dir: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path;"
        "from marketplace.local.postgres import PostgresServer;"
        "server = PostgresServer(Path(sys.argv[1])); server.start();"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    data = var_dir / "postgres"
    argv = [sys.executable, "-c", script, str(data)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server_process = psutil.Process(int(owner.stdout.readline()))
        os.kill(owner.pid, signal.SIGKILL)
    server_process.wait(10)
    assert not (data / "postmaster.pid").exists()
    assert "database system is shut down" in (var_dir / "postgres.log").read_text()


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


def test_a_path_too_long_for_a_socket_works(var_dir: Path) -> None:
    server = PostgresServer(var_dir / ("long" * 20) / "with space" / "postgres")
    server.start()
    try:
        assert server.socket_dir != server.data
        assert execute(server, "SELECT 1") == [(1,)]
    finally:
        server.stop()


def test_a_directory_with_foreign_files_is_refused_untouched(var_dir: Path) -> None:
    (var_dir / "postgres").mkdir()
    (var_dir / "postgres" / "thesis.txt").write_text("mine")
    with pytest.raises(LocalError, match="is not empty"):
        PostgresServer(var_dir / "postgres").start()
    assert [p.name for p in (var_dir / "postgres").iterdir()] == ["thesis.txt"]


def test_data_of_another_version_is_refused(var_dir: Path) -> None:
    (var_dir / "postgres").mkdir()
    (var_dir / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(LocalError, match="made by PostgreSQL 16"):
        PostgresServer(var_dir / "postgres").start()
