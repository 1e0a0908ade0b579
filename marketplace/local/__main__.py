"""`python -m marketplace.local run|demo|bench|manage`: the market kept up, shown or measured."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from marketplace.local import bench, demo, manage
from marketplace.local.environment import DEFAULT_PORT, port_given, var_dir, wants_standin
from marketplace.local.market import Market
from marketplace.local.processes import LocalError, ignore_interrupts
from marketplace.local.supervisor import Supervisor


def main() -> int:
    """Run one command. Problems become one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m marketplace.local", description=__doc__)
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of `manage`")
    given = parser.parse_args()
    if given.command != "manage" and given.arguments:
        parser.error(f"{given.command} takes no arguments")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return COMMANDS[given.command](given.arguments)
    except LocalError as error:
        if error.detail:
            print(error.detail, file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped", file=sys.stderr)
        return 130


def run() -> int:
    """Keep the market up until Ctrl-C or SIGTERM."""
    standin = wants_standin(os.environ)
    port = port_given(os.environ) or DEFAULT_PORT
    market = Market(var=var_dir(), port=port, say=progress(), stripe_standin=standin)
    try:
        market.start()
        print(welcome(market.url, market.seed), flush=True)
        Supervisor(market.managed, market.say).run()
    except KeyboardInterrupt:
        print("\nStopping", flush=True)
    finally:
        ignore_interrupts()
        market.stop()
    print("Stopped; the data is kept in", market.var)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": lambda _: run(),
    "demo": lambda _: demo.main(progress()),
    "bench": lambda _: bench.main(progress()),
    "manage": manage.main,
}


def progress() -> Callable[[str], None]:
    """Return a function that prints a line with the seconds since now in front."""
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begin:5.1f} s] {text}", flush=True)

    return say


def welcome(url: str, seed: dict[str, Any]) -> str:
    """Return what a newcomer needs: where to sign in, and lines that work as they stand."""
    if not seed:
        return f"\nMercato is up on {url}   (Ctrl-C stops it)\n"
    body = json.dumps({"model": seed["model"], "input": {"prompt": "a red circle"}})
    curl = [
        *("curl", "-s", f"{url}/v1/jobs", "-H", f"Authorization: Bearer {seed['api_key']}"),
        *("-H", "Content-Type: application/json", "-H", "Prefer: wait=30", "-d", body),
    ]
    logins = "\n".join(
        f"  {login['role']:<10} {login['email']:<28} {login['password']}"
        for login in seed["logins"]
    )
    return (
        f"\nMercato is up on {url}   (Ctrl-C stops it)\n\n"
        f"Sign in at {url}/accounts/login/ as\n{logins}\n\n"
        "E-mails are printed to var/log: the link that confirms a new account to web.log,\n"
        "alerts about money to worker-outbound.log\n\n"
        f"API key: {seed['api_key']}\n\nMake a picture:\n{shlex.join(curl)}\n\n"
        "The same with our client (pip install ./marketplace/client):\n"
        f"export MERCATO_URL={url} MERCATO_KEY={seed['api_key']}\n"
        f'mercato run {seed["model"]} prompt="a red circle"\n'
    )


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
