"""`manage.py` for the market of this folder: with its key, its database and its broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from marketplace.local import environment
from marketplace.local.lock import RunLock
from marketplace.local.postgres import PostgresServer
from marketplace.local.valkey import HOST


def main(arguments: Sequence[str]) -> int:
    """Become `manage.py` with `arguments`. What the environment names goes before our own."""
    var = environment.var_dir()
    url = RunLock(var / "run.lock").holder_url()
    if url is None and not os.environ.get("DATABASE_URL"):
        print(f"note: no market runs on {var}; `make run` starts it", file=sys.stderr)
        os.environ.setdefault("DATABASE_POOL_TIMEOUT", "0.5")  # waiting would bring none
    env = dict(os.environ) | local_environment(var, url, os.environ)
    argv = [sys.executable, str(environment.REPOSITORY / "manage.py"), *arguments]
    sys.stdout.flush()
    os.execve(sys.executable, argv, env)  # noqa: S606


def local_environment(var: Path, url: str | None, given: Mapping[str, str]) -> dict[str, str]:
    """Return what `make run` sets for its processes and `given` does not name."""
    own = {"VAR_DIR": str(var), "DJANGO_SETTINGS_MODULE": "marketplace.settings"}
    if not given.get("SECRET_KEY"):
        var.mkdir(parents=True, exist_ok=True)
        own["SECRET_KEY"] = environment.secret_key(var)
    if not given.get("DATABASE_URL"):
        own |= {"DATABASE_URL": PostgresServer(var / "postgres").url, "LOCAL_STACK": "1"}
    port = var / "valkey" / "port"
    if port.exists():
        valkey = f"redis://{HOST}:{port.read_text().strip()}/0"
        own |= {"BROKER_URL": given.get("BROKER_URL") or valkey}
        own |= {"VALKEY_URL": given.get("VALKEY_URL") or valkey}
    if url and not given.get("PUBLIC_URL"):
        own["PUBLIC_URL"] = url
    if url and not given.get("STRIPE_API_KEY"):
        own |= environment.standin_read(var)
    return own
