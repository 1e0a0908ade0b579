"""Closes vendors' statements of a month: `manage.py close_statements --month 2026-10`."""

import uuid
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.management.folders import folder_for_preview
from billing.months import previous_month
from billing.services import month_of
from billing.statements.close import (
    require_ended,
    statement_preview,
    statements_close,
    vendors_due,
)
from billing.statements.draft import CENT_NANO, Draft
from billing.statements.export import statement_preview_files
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
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Show, but write nothing; without --month the running month so far too.",
        )
        parser.add_argument(
            "--out",
            metavar="FOLDER",
            help="With --dry-run and --org: write the previews there, as PDF and CSV.",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Close, or show what closing would write."""
        month = _month(options["month"])
        dry_run = options["dry_run"]
        org_id = _org(options["org"])
        folder = folder_for_preview(options["out"], org=options["org"], dry_run=dry_run)
        try:
            require_ended(month, dry_run=dry_run)
            if dry_run:
                running = [] if options["month"] else [month_of(now())]
                for each in (month, *running):
                    self._show(each, org_id, folder)
                self.stdout.write("Nothing was closed.")
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

    def _show(self, month: date, org_id: uuid.UUID | None, folder: Path | None) -> None:
        so_far = " so far, it has not ended" if month == month_of(now()) else ""
        self.stdout.write(f"{month:%Y-%m}{so_far}:")
        for vendor in vendors_due(month, org_id):
            draft: Draft = statement_preview(vendor, month)
            if draft.has_news:
                slug = Organisation.objects.get(pk=vendor).slug
                self.stdout.write(
                    f"{slug}  "
                    f"payout {format_usd(draft.payout_cents * CENT_NANO)}  "
                    f"carried {format_usd(draft.carried_out_nano)}  "
                    f"pending {format_usd(draft.pending_nano)}  {draft.reason}"
                )
                if folder:
                    name = f"preview-statement-{slug}-{month:%Y-%m}"
                    self._preview_write(folder / name, vendor, month)

    def _preview_write(self, path: Path, vendor: uuid.UUID, month: date) -> None:
        files = statement_preview_files(vendor, month)
        if files is not None:
            path.with_suffix(".pdf").write_bytes(files[0])
            path.with_suffix(".csv").write_bytes(files[1])
            self.stdout.write(f"{path}.pdf and .csv are written")


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
