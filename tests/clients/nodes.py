"""Runs scripts with clients from npm, pinned in `node/package.json`, against the live server.

The clients are installed once into `var/node/HASH`, by whichever process comes first.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PINNED = HERE / "node"
CACHE = HERE.parent.parent / "var" / "node"
_UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH")

Node = Callable[..., Any]


def _installed() -> Path:
    """Return the folder that has the clients, after installing them if it has none. May skip."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip(
            "node and npm are not installed: `make node` as root, or your system's packages"
        )
    wanted = [PINNED / "package.json", PINNED / "package-lock.json"]
    place = CACHE / hashlib.sha256(b"".join(p.read_bytes() for p in wanted)).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "installed").exists():
            for each in wanted:
                shutil.copy(each, place)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)
            if done.returncode:
                why = next((code for code in _UNREACHABLE if code in done.stderr), "")
                if why:
                    pytest.skip(f"npm cannot reach its registry ({why})")
                pytest.fail(f"npm ci failed:\n{done.stderr}", pytrace=False)
            (place / "installed").touch()
    return place


@pytest.fixture(scope="session")
def node() -> Node:
    """Run a script: `node("replicate/runs.mjs", given={…}, env={…})` returns what it tells.

    The script is named from tests/clients. `given` and `market` (JSON) are globals in it;
    `tell(value)` in it, once, is what comes back. See node/setup.mjs.
    """
    place = _installed()

    def run(
        script: str,
        *,
        given: Any = None,
        market: Any = None,
        env: dict[str, str] | None = None,
        timeout_s: float = 60,
    ) -> Any:
        own = {"GIVEN": json.dumps(given), "MARKET": json.dumps(market), "NODE_NO_WARNINGS": "1"}
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            ["node", "--input-type=module", "--import", (PINNED / "setup.mjs").as_uri(), "-"],
            input=(HERE / script).read_text(),
            cwd=place,
            env={**kept, **own, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode or not done.stdout:
            said = done.stderr or "it said nothing"
            pytest.fail(f"{script} ended with {done.returncode}:\n{said}\n{done.stdout}")
        if done.stderr:
            print(done.stderr)
        return json.loads(done.stdout)

    return run
