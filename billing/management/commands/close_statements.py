"""Closes vendors' statements of a month: `manage.py close_statements --month 2026-10`."""

import uuid
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.months import previous_month
from billing.services import month_of
from billing.statements.close import (
    require_ended,
    statement_preview,
    statements_close,
    vendors_due,
)
from billing.statements.draft import CENT_NANO, Draft
from marketplace.accounts.models import Organisation
from marketplace.core.clock import now
from marketplace.core.errors import MarketError
from marketplace.core.money import format_usd


class Command(BaseCommand):
    """Prints one line per statement. May be killed, repeated, and run twice at once."""

    help = "Write vendors' statements of a month that has ended, and their payouts."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the month, one vendor, and whether to write."""
        parser.add_argument("--month", help="YYYY-MM; the last month that has ended if left out.")
        parser.add_argument("--org", help="The slug of one vendor; all if left out.")
        parser.add_argument("--dry-run", action="store_true", help="Show, but write nothing.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Close, or show what closing would write."""
        month = _month(options["month"])
        org_id = _org(options["org"])
        try:
            require_ended(month)
            if options["dry_run"]:
                self._show(month, org_id)
                return
            count = 0
            for statement in statements_close(month=month, org_id=org_id):
                count += 1
                self.stdout.write(
                    f"{statement.number}  {statement.org.slug}  "
                    f"payout {format_usd(statement.payout_cents * CENT_NANO)}  "
                    f"carried {format_usd(statement.carried_out_nano)}  {statement.reason}"
                )
        except MarketError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{count} statements of {month:%Y-%m} were closed.")

    def _show(self, month: date, org_id: uuid.UUID | None) -> None:
        for vendor in vendors_due(month, org_id):
            draft: Draft = statement_preview(vendor, month)
            if draft.has_news:
                self.stdout.write(
                    f"{Organisation.objects.get(pk=vendor).slug}  "
                    f"payout {format_usd(draft.payout_cents * CENT_NANO)}  "
                    f"carried {format_usd(draft.carried_out_nano)}  "
                    f"pending {format_usd(draft.pending_nano)}  {draft.reason}"
                )
        self.stdout.write("Nothing was written.")


def _month(text: str | None) -> date:
    if text is None:
        return previous_month(month_of(now()))
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise CommandError(f"{text!r} is not a month: write it as 2026-10.") from error


def _org(slug: str | None) -> uuid.UUID | None:
    if slug is None:
        return None
    found = Organisation.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(f"There is no organisation {slug}.")
    return found.pk
