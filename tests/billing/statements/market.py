"""A small market for tests of statements: calls, refunds, invoices and payout accounts."""

import random
import uuid
from datetime import UTC, date, datetime
from typing import Any
from unittest.mock import patch

from django.utils import timezone

from billing.invoicing.close import close
from billing.invoicing.payment import invoice_paid
from billing.models import Charge, Invoice, PayoutAccount, Refund, RefundReason
from billing.rating import Rating
from billing.refunds import charge_refund
from billing.services import charge_settle, credit_top_up, hold_reserve
from billing.split import Share
from billing.wallets import credit_limit_set
from marketplace.accounts import services as accounts
from marketplace.accounts.models import Organisation
from tests.cast import person


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def organisation(slug: str, country: str = "") -> Organisation:
    org = accounts.organisation_create(name=slug.title(), owner=person(slug), slug=slug)
    org.country = country
    org.save(update_fields=["country"])
    return org


def buyer(slug: str, *, prepaid: int = 0, limit: int = 0, country: str = "DE") -> Organisation:
    """An organisation with prepaid money and a credit limit, both in nano-USD."""
    org = organisation(slug, country)
    if prepaid:
        credit_top_up(org_id=org.pk, amount_nano=prepaid, source=f"test:{org.pk}")
    if limit:
        credit_limit_set(org_id=org.pk, limit_nano=limit)
    return org


def call(
    payer: Organisation,
    amount: int,
    shares: list[tuple[Organisation, int]],
    at: datetime,
    *,
    version: uuid.UUID | None = None,
) -> Charge:
    """One settled call: `shares` are (vendor, basis points), the version's own vendor first."""
    source, version = uuid.uuid4(), version or uuid.uuid5(uuid.NAMESPACE_URL, shares[0][0].slug)
    hold_reserve(source_id=source, org_id=payer.pk, amount_nano=amount)
    charge_settle(
        source_id=source,
        vendor_id=shares[0][0].pk,
        version_id=version,
        price_id=uuid.uuid4(),
        model_ref=f"{shares[0][0].slug}/model",
        unit="image",
        rating=Rating(amount, ()),
        shares=[
            Share(str(org.pk), bps, str(version if leg == 0 else uuid.uuid4()))
            for leg, (org, bps) in enumerate(shares)
        ],
        occurred_at=at,
    )
    return Charge.objects.get(pk=source)


def refund(charge: Charge, at: datetime, amount: int | None = None) -> Refund:
    """Give a charge back, whole or in part, at a moment."""
    with patch.object(timezone, "now", lambda: at):
        return charge_refund(
            source_id=charge.pk, key=f"{at}:{amount}", reason=RefundReason.STAFF,
            amount_nano=amount,
        )  # fmt: skip


def invoice(payer: Organisation, month: date) -> Invoice | None:
    """Close a month that has ended for one payer; late calls are in it. None: nothing to say."""
    close(month, org_id=payer.pk)
    return Invoice.objects.filter(org=payer, month=month).first()


def paid(found: Invoice) -> None:
    """Book that an invoice was paid."""
    invoice_paid(invoice_id=found.pk)


def payout_account(org: Organisation, *, minimum: int = 100, **extra: Any) -> PayoutAccount:
    """An account that may receive transfers; `minimum` in cents."""
    values = {"stripe_account_id": f"acct_{org.slug}", "enabled": True, **extra}
    return PayoutAccount.objects.create(org=org, minimum_cents=minimum, **values)


def any_amount(rng: random.Random) -> int:
    """Amounts from a fraction of a cent to some dollars."""
    return rng.choice([rng.randint(1, 10**6), rng.randint(10**6, 10**9), rng.randint(1, 5) * 10**9])
