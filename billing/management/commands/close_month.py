"""`manage.py close_month`: issues the invoices of a month. Safe to stop and to run again."""

from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.invoicing import focus
from billing.invoicing.close import Report, close
from billing.invoicing.documents import preview_pdf
from billing.invoicing.months import month_parse, months_to_close, this_month
from billing.invoicing.selectors import invoice_preview
from billing.management.folders import folder_for_preview
from marketplace.accounts.models import Organisation
from marketplace.core.errors import MarketError


def _told(report: Report, *, dry_run: bool) -> str:
    verb = "would be issued" if dry_run else "issued"
    so_far = " so far, it has not ended" if report.month == this_month() else ""
    return (
        f"{report.month:%Y-%m}{so_far}: {report.issued} invoices {verb}, "
        f"{report.due_cents / 100:.2f} USD "
        f"due, {report.paid} of them with nothing due; {report.held} held back for staff"
    )


class Command(BaseCommand):
    """Close one month, or all that have ended and are not closed."""

    help = "Issue the invoices of a UTC month that has ended. Repeating it changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--month", metavar="YYYY-MM", help="default: all that are due")
        parser.add_argument("--org", metavar="SLUG", help="only this organisation")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="compute, write nothing; shows the running month so far too",
        )
        parser.add_argument(
            "--out",
            metavar="FOLDER",
            help="with --dry-run and --org: write the previews there, as PDF and CSV",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Close."""
        dry_run = options["dry_run"]
        folder = folder_for_preview(options["out"], org=options["org"], dry_run=dry_run)
        try:
            org = _org(options["org"])
            for month in _months(options["month"], dry_run=dry_run):
                report = close(
                    month,
                    org_id=org.pk if org else None,
                    dry_run=dry_run,
                    progress=self.stderr.write,
                )
                self.stdout.write(_told(report, dry_run=dry_run))
                if folder and org:
                    self._preview_write(folder, org, month)
        except MarketError as error:
            raise CommandError(error.message) from error
        if dry_run:
            self.stdout.write("Nothing was issued.")

    def _preview_write(self, folder: Path, org: Organisation, month: date) -> None:
        preview = invoice_preview(org.pk, month)
        if not preview.lines:
            self.stdout.write(f"{month:%Y-%m}: {org.slug} has nothing to invoice, no file")
            return
        path = folder / f"preview-invoice-{org.slug}-{month:%Y-%m}"
        path.with_suffix(".csv").write_text("".join(focus.rows(preview, org, preview.lines)))
        path.with_suffix(".pdf").write_bytes(preview_pdf(preview, org))
        self.stdout.write(f"{path}.pdf and .csv are written")


def _months(text: str | None, *, dry_run: bool) -> list[date]:
    if text:
        return [month_parse(text)]
    return [*months_to_close(), this_month()] if dry_run else months_to_close()


def _org(slug: str | None) -> Organisation | None:
    if not slug:
        return None
    found = Organisation.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(f"There is no organisation {slug!r}.")
    return found
