"""What a statement says: sums, lines, what is pending and why, what is paid or carried and why."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from billing.models import NO_VERSION, PayoutAccount
from marketplace.core.money import NANO, format_usd

CENT_NANO = NANO // 100
PENDING = {
    "granted": "Paid by promotional credit of a customer who has not paid yet.",
    "uninvoiced": "Your customers' invoices for it are not issued yet.",
    "open": "Your customers' invoices for it are issued and not paid yet.",
    "void": "Your customers' invoices for it were declared void: staff decide.",
    "uncollectible": "Your customers' invoices for it could not be collected: staff decide.",
}


@dataclass(frozen=True, slots=True)
class Line:
    """Earnings by calls of one version under one licence from payers of one country."""

    position: int
    model_ref: str
    version_id: uuid.UUID
    licence_id: uuid.UUID | None
    royalty: bool
    country: str
    month: date
    calls: int
    earned_nano: int
    clawed_back_nano: int

    @property
    def returned_nano(self) -> int:
        """What of `earned_nano` are payouts taken back: all of it or nothing."""
        return self.earned_nano if self.version_id == NO_VERSION else 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Line":
        """Read a row as PostgreSQL writes it in JSON."""
        return cls(
            position=row["position"],
            model_ref=row["model_ref"],
            version_id=uuid.UUID(row["version_id"]),
            licence_id=uuid.UUID(row["licence_id"]) if row["licence_id"] else None,
            royalty=row["royalty"],
            country=row["country"],
            month=date.fromisoformat(row["month"]),
            calls=row["calls"],
            earned_nano=row["earned_nano"],
            clawed_back_nano=row["clawed_back_nano"],
        )


@dataclass(frozen=True, slots=True)
class Pending:
    """Shares that cannot be paid out yet, less what was refunded of them, for one reason."""

    amount_nano: int
    calls: int
    reason: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A statement as it would be, or is being, written. Amounts in nano-USD and whole cents."""

    month: date
    carried_in_nano: int
    lines: tuple[Line, ...]
    pending: tuple[Pending, ...]
    payout_cents: int
    reason: str
    has_news: bool
    """Whether anything happened in the month, or is stated or paid now."""

    @property
    def earned_nano(self) -> int:
        """All that was added to what the vendor is owed."""
        return sum(line.earned_nano for line in self.lines)

    @property
    def returned_nano(self) -> int:
        """What of that were earlier payouts that were taken back, and are owed again."""
        return sum(line.returned_nano for line in self.lines)

    @property
    def shares_nano(self) -> int:
        """What of that was earned by calls."""
        return self.earned_nano - self.returned_nano

    @property
    def clawed_back_nano(self) -> int:
        """All that refunds took off it."""
        return sum(line.clawed_back_nano for line in self.lines)

    @property
    def pending_nano(self) -> int:
        """What may come in a later statement."""
        return sum(row.amount_nano for row in self.pending)

    @property
    def payable_nano(self) -> int:
        """What is owed, before the payout."""
        return self.carried_in_nano + self.earned_nano - self.clawed_back_nano

    @property
    def carried_out_nano(self) -> int:
        """What is left for the next statement."""
        return self.payable_nano - self.payout_cents * CENT_NANO


def draft_of(
    month: date,
    carried_in_nano: int,
    answer: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]],
    account: PayoutAccount | None,
) -> Draft:
    """Build a draft from what one of the two queries answered."""
    lines = tuple(Line.of(row) for row in answer[0])
    pending = tuple(
        Pending(row["amount_nano"], row["calls"], PENDING[row["state"]]) for row in answer[1]
    )
    payable = carried_in_nano + sum(line.earned_nano - line.clawed_back_nano for line in lines)
    cents, reason = payout_decide(payable, account)
    news = bool(lines or cents or any(row["fresh"] for row in answer[1]))
    return Draft(month, carried_in_nano, lines, pending, cents, reason, news)


def payout_decide(payable_nano: int, account: PayoutAccount | None) -> tuple[int, str]:
    """Return how many cents are paid out, or 0 and why everything is carried on. Pure."""
    if payable_nano < 0:
        return 0, (
            f"More was taken back than earned: {format_usd(-payable_nano)} is set off against "
            "what you earn next."
        )
    if payable_nano == 0:
        return 0, ""
    cents = payable_nano // CENT_NANO
    minimum = account.minimum_cents if account else PayoutAccount().minimum_cents
    if cents < max(1, minimum):
        least = format_usd(max(1, minimum) * CENT_NANO)
        return 0, f"{format_usd(payable_nano)} is below your minimum payout of {least}."
    if account is None or not account.stripe_account_id:
        return 0, "You have no payout account yet."
    if not account.enabled:
        return 0, "Your payout account cannot receive money yet: see what Stripe asks for."
    return cents, ""
