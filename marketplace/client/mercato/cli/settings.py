"""Where the market is and who asks: options, the environment, or what `login` kept."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mercato.cli.terminal import Refused, tell
from mercato.client import Mercato
from mercato.money import show
from mercato.wire import DEFAULT_URL, trimmed


@dataclass(frozen=True)
class Where:
    """A market and a key."""

    url: str
    key: str


def path() -> Path:
    """Return the file that `login` writes."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "mercato" / "login.json"


def read(url: str | None) -> Where:
    """Return what holds. A kept key is for the market that it was kept for, and no other."""
    kept: dict[str, Any] = {}
    try:
        found = json.loads(path().read_text())
        kept = found if isinstance(found, dict) else {}
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise Refused(f"{path()} cannot be read: {error}") from error
    where = trimmed(url or os.environ.get("MERCATO_URL") or str(kept.get("url", "")) or DEFAULT_URL)
    key = os.environ.get("MERCATO_KEY", "")
    if not key and where == kept.get("url"):
        key = str(kept.get("key", ""))
    return Where(where, key)


def add(commands: Any) -> None:
    """Add `login`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "login", help="keep a key for this market in a file that only you can read"
    )
    parser.add_argument("--forget", action="store_true", help="delete what was kept")


def login(options: argparse.Namespace, where: Where) -> int:
    """Ask for a key, try it, and keep it."""
    if options.forget:
        try:
            path().unlink()
        except FileNotFoundError:
            tell("No key is kept.")
        else:
            tell(f"{path()} is gone.")
        return 0
    if sys.stdin.isatty():
        key = getpass.getpass(f"API key for {where.url}: ").strip()
    else:
        key = sys.stdin.readline().strip()
    if not key:
        raise Refused("No key was given.", 2)
    with Mercato(key, url=where.url) as client:
        balance = client.balance()
    target = path()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        json.dump({"url": where.url, "key": key}, file)
    part.replace(target)
    tell(f"Kept in {target}. {show(balance.available_nano_usd)} can be spent.")
    return 0
