"""Fills an installation with a small market: `manage.py seed`. Repeating it changes nothing."""

import json
import subprocess
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketplace.console.demo_market import seed


class Command(BaseCommand):
    """Makes demo users, organisations and models, and prints how to sign in."""

    help = "Make demo users, organisations and models, and print how to sign in."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --json."""
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Seed. Refused where strangers could use the demo logins."""
        if not (settings.LOCAL_STACK or settings.DEBUG):
            raise CommandError("Demo logins are only for a local installation (LOCAL_STACK=1).")
        try:
            made = seed(noop=settings.ALLOW_NOOP_FAMILY)
        except subprocess.CalledProcessError as error:
            raise CommandError(f"The engine cannot say what it ships: {error.stderr}") from error
        if options["json"]:
            self.stdout.write(json.dumps(made))
            return
        for login in made["logins"]:
            self.stdout.write(f"{login['role']:10} {login['email']:24} {login['password']}")
        self.stdout.write(f"API key    {made['api_key']}")
