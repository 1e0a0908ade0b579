"""Which variables each process gets: the control plane its secrets, a GPU worker none."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from marketplace.local.processes import LocalError

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_PORT = 8000
STANDIN = "standin"
STANDIN_FILE = "stripe-standin.json"

# What a GPU worker may see of the environment: its own settings, where programs and caches are,
# and what steers the numeric libraries. Nothing that opens the database or moves money.
WORKER_VARIABLES = frozenset(
    {
        "BROKER_URL",
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "LOG_LEVEL",
        "MERCATO_WEIGHTS_DIRS",
        "PATH",
        "PYTHONUNBUFFERED",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "VALKEY_URL",
        "VIRTUAL_ENV",
        "XDG_CACHE_HOME",
    }
)
WORKER_PREFIXES = (
    "CUDA_",
    "HIP_",
    "INFERENCE_",
    "KMP_",
    "LC_",
    "MKL_",
    "NVIDIA_",
    "OMP_",
    "PYTORCH_",
    "TORCH",
    "TRITON_",
    "WORKER_",
)


def var_dir() -> Path:
    """Return where everything that changes is kept: $VAR_DIR, else `var/` in the repository."""
    return Path(os.environ.get("VAR_DIR") or REPOSITORY / "var").absolute()


def secret_key(var: Path) -> str:
    """Return the installation's secret key; the first call makes it, readable by us alone."""
    path = var / "secret_key"
    if path.exists():
        return path.read_text().strip()
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(48) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    return path.read_text().strip()


def port_given(given: Mapping[str, str]) -> int | None:
    """Return the port that PORT names, or None. Raises LocalError for what is no port."""
    text = given.get("PORT")
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise LocalError(f"PORT must be a number from 1 to 65535, not {text!r}")
    return int(text)


def wants_standin(given: Mapping[str, str]) -> bool:
    """Tell whether STRIPE asks for the stand-in. Raises LocalError if it cannot be had."""
    wish = given.get("STRIPE", "")
    if wish not in ("", STANDIN):
        raise LocalError(f"STRIPE can be {STANDIN!r}, not {wish!r}; a real key is STRIPE_API_KEY")
    for taken in ("STRIPE_API_KEY", "STRIPE_API_BASE", "DATABASE_URL"):
        if wish and given.get(taken):
            raise LocalError(f"STRIPE={STANDIN} is for a market of its own: unset {taken}")
    return bool(wish)


def standin_write(var: Path, variables: Mapping[str, str]) -> None:
    """Keep what commands need that run beside the market, readable by us alone."""
    path = var / STANDIN_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(dict(variables), file)


def standin_read(var: Path) -> dict[str, str]:
    """Return what `standin_write` kept; nothing if the market runs without the stand-in."""
    path = var / STANDIN_FILE
    return dict(json.loads(path.read_text())) if path.exists() else {}


def standin_forget(var: Path) -> None:
    """Drop what `standin_write` kept."""
    (var / STANDIN_FILE).unlink(missing_ok=True)


def without_real_services() -> dict[str, str]:
    """Return the environment without addresses and secrets of services that others may use."""
    named = {"DATABASE_URL", "BROKER_URL", "VALKEY_URL", "PUBLIC_URL", "SECRET_KEY"}
    return {
        key: value
        for key, value in os.environ.items()
        if key not in named and not key.startswith(("S3_", "STRIPE_", "EMAIL_"))
    }


def uses_redis(url: str) -> bool:
    """Tell whether a broker URL is a Redis or Valkey server, which also serves as VALKEY_URL."""
    return url.startswith(("redis://", "rediss://"))


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `environment` that a GPU worker gets."""
    return {
        key: value
        for key, value in environment.items()
        if key in WORKER_VARIABLES or key.startswith(WORKER_PREFIXES)
    }
