"""Which UTC months there are to close, and when."""

from datetime import UTC, date, datetime, timedelta

from django.conf import settings

from billing.models import Invoice, InvoiceStatus
from billing.months import month_end
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput


def last_month() -> date:
    """Return the first day of the UTC month that ended last."""
    return (now().astimezone(UTC).date().replace(day=1) - timedelta(days=1)).replace(day=1)


def months_to_close() -> list[date]:
    """Return the last month and earlier ones that have drafts, oldest first."""
    drafts = Invoice.objects.filter(status=InvoiceStatus.DRAFT, month__lt=last_month())
    return [*drafts.order_by("month").values_list("month", flat=True).distinct(), last_month()]


def is_settled(month: date) -> bool:
    """Tell whether the month ended so long ago that its last calls have been charged."""
    return now() >= month_end(month) + timedelta(hours=settings.INVOICE_SETTLE_DELAY_H)


def this_month() -> date:
    """Return the first day of the UTC month that runs."""
    return now().astimezone(UTC).date().replace(day=1)


def month_parse(text: str) -> date:
    """Read YYYY-MM. Raises InvalidInput."""
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is no month: write it like 2026-10.", fields={"month": ["YYYY-MM."]}
        ) from error
