"""Child processes that never outlive the runner, and that show their log when they fail."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

LOG_LIMIT_BYTES = 10_000_000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class LocalError(Exception):
    """A problem to tell the user in one line; `detail` may add the end of a log below it."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class Managed(Protocol):
    """What the runner keeps alive: a service or one of our own processes."""

    name: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def is_running(self) -> bool: ...
    def log_tail(self) -> str: ...


def tail(path: Path, lines: int = 15) -> str:
    """Return the last `lines` lines of the file at `path`, or nothing when it is not there."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 20_000))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:300] for line in text.splitlines()[-lines:])


def _die_with_parent(death_signal: int) -> Callable[[], None]:
    """Return what a forked child runs so that the kernel signals it when the runner dies.

    The kernel watches the *thread* that forked, so children are started from the main thread.
    A change of user clears the setting; `subprocess` changes user before it calls this. Code
    between fork and exec is unsafe beside other threads: the runner has none.
    """
    parent = os.getpid()

    def in_child() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if os.getppid() != parent:  # the runner died between fork and prctl
                os._exit(1)

    return in_child


@dataclass
class Child:
    """One child process in a process group of its own, its output in `log`.

    `death_signal` is what it gets when the runner is killed: SIGKILL for a process without
    children, a gentler signal for one that must end its own children first.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    user: int | None = None
    group: int | None = None
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    stop_timeout_s: float = 10.0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the process. Raises LocalError when the program cannot be executed."""
        if self.is_running():
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as output:
            try:
                self.process = subprocess.Popen(
                    list(self.argv),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=None if self.env is None else dict(self.env),
                    cwd=self.cwd,
                    user=self.user,
                    group=self.group,
                    extra_groups=None if self.user is None else [],
                    process_group=0,
                    preexec_fn=_die_with_parent(self.death_signal),  # noqa: PLW1509 - see there
                )
            except OSError as error:
                raise LocalError(f"{self.name} cannot start: {error}") from error

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def returncode(self) -> int | None:
        return self.process.poll() if self.process else None

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_tail(self) -> str:
        return tail(self.log)

    def request_stop(self) -> None:
        """Ask the process to end, without waiting."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """Ask the process to end, wait, then kill what is left of its process group."""
        if self.process is None:
            return
        self.request_stop()
        try:
            self.process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """Kill the whole process group at once and reap the process."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()


def run_to_end(name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> str:
    """Run a command that ends by itself and return its stdout. Raises LocalError with its stderr.

    It dies with the runner too.
    """
    with subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(env),
        cwd=cwd,
        preexec_fn=_die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - see there
    ) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        detail = "\n".join((err or out).splitlines()[-15:])
        raise LocalError(f"{name} failed with code {process.returncode}", detail)
    return out


def stop_together(children: Sequence[Child]) -> None:
    """Stop several children at the cost of the slowest: ask all, then wait for each."""
    for child in children:
        child.request_stop()
    for child in children:
        child.stop()


def ignore_interrupts() -> None:
    """From here on a second Ctrl-C does not leave half of the processes behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def wait_until(
    ready: Callable[[], bool],
    *,
    alive: Callable[[], bool],
    timeout_s: float,
    every_s: float = 0.05,
) -> bool:
    """Poll `ready` until it holds. False when `alive` stops holding or time runs out."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if ready():
            return True
        if not alive():
            return False
        time.sleep(every_s)
    return False
