"""Simulates a month on private servers: `manage.py simulate_month`."""

import argparse
import subprocess
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from marketplace.simulation.__main__ import arguments


class Command(BaseCommand):
    """Runs the simulation in a process of its own: this one has the real database's settings."""

    help = (
        "Drive a month of traffic through the real code on a moved clock and private servers, "
        "then check every rule of the ledger. Nothing of this market is touched."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the simulation's options."""
        arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run it."""
        command = [sys.executable, "-m", "marketplace.simulation"]
        for name in ("customers", "jobs", "months", "seed"):
            if options[name] is not None:
                command += [f"--{name}", str(options[name])]
        command += [f"--{name}" for name in ("faults", "exhaust") if options[name]]
        if subprocess.run(command, check=False).returncode:
            raise CommandError("The simulated month broke a rule, or itself; see above.")
