"""The command line: `mercato run vendor/name prompt="a red circle"`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from mercato.cli import calls, lists, settings
from mercato.cli.terminal import Refused, Teller, tell
from mercato.client import Mercato
from mercato.errors import ApiError, InvalidInput, MercatoError, QuoteTooHigh
from mercato.version import VERSION

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_URL = "address of the market, instead of MERCATO_URL"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mercato",
        description="Run generative-media models of a Mercato market.",
        epilog="The market is MERCATO_URL, the key MERCATO_KEY; or what `mercato login` kept.",
    )
    parser.add_argument("--version", action="version", version=f"mercato {VERSION}")
    parser.add_argument("--url", help=_URL)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    calls.add(commands)
    lists.add(commands)
    settings.add(commands)
    for command in set(commands.choices.values()):
        # Without a default, which would undo what was said before the command.
        command.add_argument("--url", default=argparse.SUPPRESS, help=_URL)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0, 1 for what failed, 2 for bad usage, 130 after Ctrl-C."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:
        # `name=value` may stand after options, which argparse does not expect of a list.
        if not hasattr(options, "values") or any(each.startswith("-") for each in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.values += rest
    log = logging.getLogger("mercato")
    log.setLevel(logging.INFO)
    log.handlers = [Teller()]
    try:
        where = settings.read(options.url)
        if options.command == "login":
            return settings.login(options, where)
        with Mercato(where.key, url=where.url) as client:
            code: int = options.carry_out(client, options)
            return code
    except KeyboardInterrupt:
        tell("Interrupted.")
        return INTERRUPTED
    except Refused as error:
        tell(f"mercato: {error}")
        return error.code
    except BrokenPipeError:  # whoever read this has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (MercatoError, OSError, ValueError) as error:
        tell(f"mercato: {explain(error)}")
        return FAILED


def explain(error: Exception) -> str:
    """Return what went wrong in one line, with the field where there is one and a next step."""
    said = " ".join(str(error).split())
    if isinstance(error, InvalidInput) and not isinstance(error, QuoteTooHigh):
        told = {name: " ".join(problems) for name, problems in error.fields.items()}
        missing = [f"{name}: {why}" for name, why in told.items() if why not in said]
        said = " ".join([said, *missing])
    if isinstance(error, ApiError) and error.status == 401:
        said += " Set MERCATO_KEY, or run `mercato login`."
    return said
