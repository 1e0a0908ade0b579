"""The embedded Valkey keeps acknowledged writes and its port through kill -9."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from marketplace.local.processes import LocalError
from marketplace.local.valkey import HOST, ValkeyServer


@pytest.fixture
def server(var_dir: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(var_dir / "valkey")
    server.start()
    yield server
    server.stop()


def test_an_acknowledged_write_survives_kill_on_the_same_port(server: ValkeyServer) -> None:
    url = server.url
    with redis.Redis.from_url(url) as client:
        client.set("kept", "7")
    server.kill()
    server.start()
    assert server.url == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"7"


def test_it_listens_on_loopback_only_and_writes_every_second(server: ValkeyServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        config = client.config_get("bind", "protected-mode", "appendonly", "appendfsync")
    assert config == {
        "bind": HOST,
        "protected-mode": "yes",
        "appendonly": "yes",
        "appendfsync": "everysec",
    }


def test_the_next_run_moves_when_the_port_was_taken_meanwhile(server: ValkeyServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "7")
    server.stop()
    with socket.socket() as thief:
        thief.bind((HOST, server.port))
        thief.listen()
        with pytest.raises(LocalError, match=f"took Valkey's port {server.port}"):
            server.start()  # its clients know it by the old port
        successor = ValkeyServer(server.data)
        successor.start()
        try:
            assert successor.port != server.port
            with redis.Redis.from_url(successor.url) as client:
                assert client.get("kept") == b"7"
        finally:
            successor.stop()


def test_it_ends_when_its_owner_is_killed(var_dir: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path;"
        "from marketplace.local.valkey import ValkeyServer;"
        "server = ValkeyServer(Path(sys.argv[1])); server.start();"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", script, str(var_dir / "valkey")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server_process = psutil.Process(int(owner.stdout.readline()))
        os.kill(owner.pid, signal.SIGKILL)
    server_process.wait(10)


def test_a_second_start_takes_over_what_a_killed_owner_left(server: ValkeyServer) -> None:
    successor = ValkeyServer(server.data)
    successor.start()
    try:
        assert not server.is_running()
        assert successor.is_running()
    finally:
        successor.stop()
