"""What was measured beside what is aimed at, and where it was measured: a file to keep."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import psycopg

AIMS: dict[str, tuple[str, float]] = {
    "billing_adds_ms.p50": ("<=", 1),
    "billing_adds_ms.p95": ("<=", 2),
    "lifecycles_per_s.8": (">=", 1000),
    "lifecycles_per_s.32": (">=", 2400),
    "hot_customer_per_s.16": (">=", 1800),
    "relay_per_s": (">=", 500),
    "relay_singly_per_s": (">=", 500),
    "audit_s": ("<=", 30),
}
"""At the sizes that the bench has by itself; the audit's is for a million transfers."""


def where(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return the device, the versions and the commit that a result belongs to."""
    ((postgres,),) = connection.execute("SHOW server_version").fetchall()
    return {
        "device": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "load": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "postgresql": postgres,
            "python": platform.python_version(),
            **{name: version(name) for name in ("django", "psycopg", "stripe")},
        },
        "commit": _commit(),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit, with a + if the tree differs from it."""
    found = []
    for command in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"]):
        done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
        found.append(done.stdout.strip() if done.returncode == 0 else "")
    return found[0] + ("+" if found[1] else "")


def _flat(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def table(found: Mapping[str, Any]) -> str:
    """Return the result as lines: name, what was measured, what is aimed at, whether it is met."""
    lines = [f"{'':28}{'measured':>14}  aim"]
    for name, value in _flat(found):
        sign, aim = AIMS.get(name, ("", None))
        text = "-" if value is None else str(value)
        beside = ""
        if aim is not None and value is not None:
            is_met = value <= aim if sign == "<=" else value >= aim
            beside = f"{sign} {aim:g} {'met' if is_met else 'missed'}"
        lines.append(f"{name:28}{text:>14}  {beside}".rstrip())
    return "\n".join(lines)


def keep(found: Mapping[str, Any], path: Path) -> None:
    """Write a result to a file that reads well in a diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
