"""Simulate months: `python -m marketplace.simulation`, or `manage.py simulate_month`."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from datetime import UTC, datetime


def _positive(text: str) -> int:
    """Read a number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument("--customers", type=_positive, default=20, help="default %(default)s")
    parser.add_argument("--jobs", type=_positive, default=400, help="default %(default)s")
    parser.add_argument("--seed", type=int, help="repeats a month; default: a random one")
    parser.add_argument(
        "--faults",
        action="store_true",
        help="kill the process, lose answers, double webhooks, take Stripe down for 26 hours",
    )
    parser.add_argument(
        "--exhaust",
        action="store_true",
        help="kill the process at every single failpoint of every act, one after the other",
    )
    parser.add_argument(
        "--months", type=_positive, default=1, help="how many, each with its own seed"
    )


def simulate(options: argparse.Namespace) -> int:
    """Simulate as asked. Returns the exit code: 1 when a rule was broken."""
    from marketplace.simulation.world import Servers

    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    for number in range(options.months):
        with Servers() as world:
            os.environ |= world.environment()
            broken = _month(world, options, seed + number)
        if broken:
            return 1
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _month(world: object, options: argparse.Namespace, seed: int) -> bool:
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    from marketplace.simulation.month import BrokenRules, Month

    call_command("migrate", verbosity=0)
    month = Month(
        world,  # type: ignore[arg-type]
        seed=seed,
        customers=options.customers,
        jobs=options.jobs,
        faults=options.faults,
        exhaust=options.exhaust,
        start=datetime(2026, 9, 1, tzinfo=UTC),
        say=_say,
    )
    try:
        report = month.run()
        broken = report.broken
        found = {
            name: getattr(options, name) for name in ("customers", "jobs", "faults", "exhaust")
        }
        found |= {"kills": report.kills, "failpoints": report.failpoints, "done": report.done}
        print(json.dumps({"simulation": "month", "seed": seed, **found, "broken": len(broken)}))
    except BrokenRules as error:
        broken = error.args[0]
    except BaseException:
        _say(f"seed {seed}: repeat it with --seed {seed}")
        raise
    finally:
        connections.close_all()
    for rule, rows in broken:
        print(f"BROKEN  {rule}\n        " + "\n        ".join(map(str, rows)))
    if broken:
        print(f"seed {seed}: repeat it with --seed {seed}")
    return bool(broken)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="manage.py simulate_month", description=__doc__)
    arguments(parser)
    return simulate(parser.parse_args())


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
    sys.exit(main())
