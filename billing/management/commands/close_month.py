"""`manage.py close_month`: issues the invoices of a month. Safe to stop and to run again."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.invoicing.close import Report, close
from billing.invoicing.months import month_parse, months_to_close
from marketplace.accounts.models import Organisation
from marketplace.core.errors import MarketError


def _told(report: Report, *, dry_run: bool) -> str:
    verb = "would be issued" if dry_run else "issued"
    return (
        f"{report.month:%Y-%m}: {report.issued} invoices {verb}, {report.due_cents / 100:.2f} USD "
        f"due, {report.paid} of them with nothing due; {report.held} held back for staff"
    )


class Command(BaseCommand):
    """Close one month, or all that have ended and are not closed."""

    help = "Issue the invoices of a UTC month that has ended. Repeating it changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--month", metavar="YYYY-MM", help="default: all that are due")
        parser.add_argument("--org", metavar="SLUG", help="only this organisation")
        parser.add_argument("--dry-run", action="store_true", help="compute, write nothing")

    def handle(self, *_: Any, **options: Any) -> None:
        """Close."""
        try:
            months = [month_parse(options["month"])] if options["month"] else months_to_close()
            org_id = None
            if options["org"]:
                found = Organisation.objects.filter(slug=options["org"]).first()
                if found is None:
                    raise CommandError(f"There is no organisation {options['org']!r}.")
                org_id = found.pk
            for month in months:
                report = close(
                    month,
                    org_id=org_id,
                    dry_run=options["dry_run"],
                    progress=self.stderr.write,
                )
                self.stdout.write(_told(report, dry_run=options["dry_run"]))
        except MarketError as error:
            raise CommandError(error.message) from error
