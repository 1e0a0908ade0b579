"""Checks every invariant of the ledger: `manage.py audit`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.invariants import audit


class Command(BaseCommand):
    """Prints one line per rule, with the rows that break it; fails if any does."""

    help = "Check that the ledger, wallets, holds and meter batches agree."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Run the audit."""
        broken = 0
        for finding in audit():
            broken += bool(finding.rows)
            self.stdout.write(f"{'BROKEN' if finding.rows else 'ok':8}{finding.rule}")
            for row in finding.rows:
                self.stdout.write(f"        {row}")
        if broken:
            raise CommandError(f"{broken} of the rules do not hold.")
