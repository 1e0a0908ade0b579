"""An invoice as CSV, with the columns of FOCUS 1.2, the FinOps Foundation's common format.

One row is one line of the invoice. Money is in USD with all its decimals; nothing is rounded
but `x_DueCents`. Columns of ours begin with `x_`, as the specification asks.
"""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from billing.models import Invoice
from billing.months import month_end
from marketplace.core.money import to_usd

COLUMNS = (
    "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodStart",
    "BillingPeriodEnd", "InvoiceId", "InvoiceIssuerName", "ProviderName", "PublisherName",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodStart",
    "ChargePeriodEnd", "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "ResourceId",
    "ResourceName", "PricingCategory", "PricingQuantity", "PricingUnit", "ConsumedQuantity",
    "ConsumedUnit", "ListCost", "ContractedCost", "BilledCost", "EffectiveCost", "x_Calls",
    "x_GrantedCost", "x_PrepaidCost", "x_DueCents",
)  # fmt: skip


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        """Return the text."""
        return text


def _usd(nano: int) -> str:
    return f"{to_usd(nano):f}"


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _start(month: Any) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def _safe(text: str) -> str:
    """Keep a spreadsheet from reading a name as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _row(invoice: Any, org: Any, line: Any) -> list[Any]:
    vendor, _, name = line.model_ref.partition("/")
    late = line.month != invoice.month
    cost = _usd(line.amount_nano)
    return [
        org.pk, _safe(org.name), "USD", _time(_start(invoice.month)),
        _time(month_end(invoice.month)), getattr(invoice, "number", None) or "",
        settings.INVOICE_ISSUER.split("|")[0], settings.SITE_NAME, vendor,
        "Usage" if line.calls else "Credit", "Correction" if late or not line.calls else "",
        f"{line.calls} calls of {line.model_ref}" + (", charged late" if late else ""),
        "Usage-Based", _time(_start(line.month)), _time(month_end(line.month)),
        "AI and Machine Learning", _safe(name or line.model_ref), line.version_id, line.price_id,
        line.version_id, line.model_ref, "Standard", f"{line.quantity.normalize():f}", line.unit,
        f"{line.quantity.normalize():f}", line.unit, cost, cost, _usd(line.postpaid_nano), cost,
        line.calls, _usd(line.granted_nano), _usd(line.prepaid_nano), line.due_cents,
    ]  # fmt: skip


def rows(invoice: Any, org: Any, lines: Iterable[Any]) -> Iterator[str]:
    """Yield the lines of the CSV file of an invoice or a preview, the header first.

    `BilledCost` is what the invoice asks for: the part used on credit. `EffectiveCost` is the
    whole cost of the usage, whoever paid it: credit granted and money paid in advance too.
    """
    writer = csv.writer(_Echo())
    yield str(writer.writerow(COLUMNS))
    for line in lines:
        yield str(writer.writerow(_row(invoice, org, line)))


def invoice_csv(invoice: Invoice) -> str:
    """Return an issued invoice as a CSV file."""
    return "".join(rows(invoice, invoice.org, invoice.lines.all()))
