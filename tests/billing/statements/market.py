"""A small market for tests of statements: calls, refunds, invoices and payout accounts."""

import random
import uuid
from datetime import UTC, date, datetime
from typing import Any

from billing.ledger import Side, post
from billing.models import (
    AccountKind,
    Charge,
    Invoice,
    InvoiceStatus,
    PayoutAccount,
    Refund,
    RefundReason,
    Transfer,
    TransferKind,
)
from billing.rating import Rating
from billing.services import charge_settle, credit_top_up, hold_reserve
from billing.split import Share
from billing.wallets import credit_limit_set
from marketplace.accounts import services as accounts
from marketplace.accounts.models import Organisation
from tests.cast import person

MIRRORS = {
    TransferKind.FUND_GRANT: TransferKind.REFUND_GRANT,
    TransferKind.FUND_PREPAID: TransferKind.REFUND_PREPAID,
    TransferKind.FUND_POSTPAID: TransferKind.REFUND_POSTPAID,
    TransferKind.SHARE: TransferKind.REFUND_SHARE,
    TransferKind.FEE: TransferKind.REFUND_FEE,
}


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


def refund(charge: Charge, at: datetime) -> Refund:
    """Give a charge back whole: every transfer of it mirrored."""
    made = Refund.objects.create(
        id=uuid.uuid5(charge.pk, "refund"), charge=charge, org=charge.org,
        amount_nano=charge.amount_nano, granted_nano=charge.granted_nano,
        prepaid_nano=charge.prepaid_nano, postpaid_nano=charge.postpaid_nano,
        vendors_nano=charge.vendors_nano, fee_nano=charge.fee_nano,
        reason=RefundReason.STAFF, occurred_at=at,
    )  # fmt: skip
    rows = Transfer.objects.filter(source_id=charge.pk).select_related("debit", "credit")
    for row in rows:
        post(
            Side(AccountKind(row.credit.kind), row.credit.org_id),
            Side(AccountKind(row.debit.kind), row.debit.org_id),
            row.amount_nano, MIRRORS[TransferKind(row.kind)], made.pk,
            leg=row.leg, reverses=row.pk, occurred_at=at,
        )  # fmt: skip
    _wallet_back(charge)
    return made


def _wallet_back(charge: Charge) -> None:
    from django.db.models import F

    from billing.models import WalletShard

    WalletShard.objects.filter(org=charge.org, shard=0).update(
        prepaid_nano=F("prepaid_nano") + charge.prepaid_nano,
        owed_nano=F("owed_nano") - charge.postpaid_nano,
    )


def invoice(payer: Organisation, month: date, status: str = InvoiceStatus.OPEN) -> Invoice:
    """An issued invoice over a payer's postpaid charges that are in none yet."""
    charges = Charge.objects.filter(
        org=payer, invoice=None, postpaid_nano__gt=0, occurred_at__date__lt=_after(month)
    )
    owed = sum(row.postpaid_nano for row in charges)
    made = Invoice.objects.create(
        id=uuid.uuid4(), org=payer, month=month, status=status, postpaid_nano=owed,
        due_cents=max(1, round(owed / 10**7)),
    )  # fmt: skip
    charges.update(invoice=made)
    return made


def _after(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def paid(found: Invoice) -> None:
    """Say that an invoice is paid; its money is not what these tests are about."""
    Invoice.objects.filter(pk=found.pk).update(status=InvoiceStatus.PAID)


def payout_account(org: Organisation, *, minimum: int = 100, **extra: Any) -> PayoutAccount:
    """An account that may receive transfers; `minimum` in cents."""
    values = {"stripe_account_id": f"acct_{org.slug}", "enabled": True, **extra}
    return PayoutAccount.objects.create(org=org, minimum_cents=minimum, **values)


def any_amount(rng: random.Random) -> int:
    """Amounts from a fraction of a cent to some dollars."""
    return rng.choice([rng.randint(1, 10**6), rng.randint(10**6, 10**9), rng.randint(1, 5) * 10**9])
