"""Commands that look around: models, model, jobs, upload, balance."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from mercato.cli.terminal import Refused, plain, table, tell
from mercato.client import Mercato
from mercato.errors import InvalidInput, NotFound
from mercato.models import Model
from mercato.money import show
from mercato.types import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, Json

_STATUSES = (QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)


def add(commands: Any) -> None:
    """Add the commands."""

    def command(name: str, about: str, carry_out: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=about)
        parser.add_argument("--json", action="store_true", help="print the market's answer")
        parser.set_defaults(carry_out=carry_out)
        return parser

    found = command("models", "list models", models)
    found.add_argument("search", nargs="?", default="", help="in name, title and summary")
    found.add_argument("--task", default="", help="text-to-image, text-to-video, …")
    found.add_argument("--limit", type=_count, default=50, help="at most so many (50)")
    one = command("model", "say what a model takes and costs", model)
    one.add_argument("model", help="vendor/name, or vendor/name:3 for a version")
    rows = command("jobs", "list jobs, newest first", jobs)
    rows.add_argument("--status", default="", choices=_STATUSES, help="only those in this state")
    rows.add_argument("--limit", type=_count, default=20, help="at most so many (20)")
    sent = command("upload", "upload a file and print its id", upload)
    sent.add_argument("file", type=Path)
    command("balance", "say what can be spent", balance)


def models(client: Mercato, options: argparse.Namespace) -> int:
    """List models."""
    found = list(itertools.islice(client.models(options.search, task=options.task), options.limit))
    if options.json:
        print(json.dumps([each.raw for each in found], indent=2))
        return 0
    if not found:
        tell("There is no such model." if options.search or options.task else "No models.")
    table(
        (each.ref, each.task, _price(each.version.price) if each.version else "", each.title)
        for each in found
    )
    return 0


def _price(price: Json | None) -> str:
    if price is None:
        return "no price"
    package = f" for {price['package_size']}" if price.get("package_size") else ""
    return f"${price['unit_price_usd']} per {price['unit']}{package}"


def found_model(client: Mercato, ref: str) -> Model:
    """Return a model. Raises Refused, with a way to find the one that was meant."""
    try:
        return client.model(ref)
    except (NotFound, InvalidInput) as error:
        raise Refused(f"{error} `mercato models` lists what there is.") from error


def model(client: Mercato, options: argparse.Namespace) -> int:
    """Describe a model."""
    found = found_model(client, options.model)
    if options.json:
        print(json.dumps(found.raw, indent=2))
        return 0
    print(plain(f"{found.ref}: {found.title}"))
    if found.summary:
        print(plain(found.summary))
    if found.version is None:
        print("It has no version that can be called.")
        return 0
    print(f"Version {found.version.number}, {_price(found.version.price)}")
    if found.version.licence.get("must_be_accepted"):
        print(plain(f"Licence {found.version.licence['title']} has to be accepted first."))
    print()
    table(
        (
            each.name,
            each.type,
            "required" if each.required else "" if each.default is None else f"= {each.default}",
            each.limits,
            each.about,
        )
        for each in found.inputs
    )
    return 0


def jobs(client: Mercato, options: argparse.Namespace) -> int:
    """List jobs."""
    size = min(options.limit, 100)
    found = list(
        itertools.islice(client.jobs(status=options.status, page_size=size), options.limit)
    )
    if options.json:
        print(json.dumps([each.raw for each in found], indent=2))
        return 0
    if not found:
        tell("There are no such jobs." if options.status else "There are no jobs.")
    table(
        (
            each.id,
            each.status,
            show(each.charge_nano_usd),
            each.model,
            each.created_at.isoformat(sep=" ", timespec="seconds") if each.created_at else "",
        )
        for each in found
    )
    return 0


def upload(client: Mercato, options: argparse.Namespace) -> int:
    """Upload a file."""
    file = client.upload(options.file)
    print(json.dumps(file.raw, indent=2) if options.json else file.id)
    tell(plain(f"{file.name}: {file.content_type}, {file.size:,} bytes"))
    return 0


def balance(client: Mercato, options: argparse.Namespace) -> int:
    """Say what can be spent."""
    found = client.balance()
    if options.json:
        print(json.dumps(found.raw, indent=2))
        return 0
    print(f"{show(found.available_nano_usd)} can be spent")
    if found.held_nano_usd:
        print(f"{show(found.held_nano_usd)} is held for running jobs")
    return 0
