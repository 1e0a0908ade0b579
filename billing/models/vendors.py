"""What a vendor has earned, month by month, and how it is paid out."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import F, Q, Sum
from django.db.models.functions import Coalesce

from billing.models.ledger import Transfer
from marketplace.accounts.models import Organisation, User
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.outbox import OutboxRow

NO_VERSION = uuid.UUID(int=0)
"""The version of lines that are for no call: payouts taken back."""


class PayoutAccount(models.Model):
    """Where a vendor is paid: an account at Stripe Connect and what it may do, as last seen."""

    org = models.OneToOneField(
        Organisation, models.PROTECT, primary_key=True, related_name="payout_account"
    )
    stripe_account_id = models.CharField(max_length=64, blank=True)
    country = models.CharField(max_length=2, blank=True)
    enabled = models.BooleanField(default=False, help_text="Stripe lets it receive transfers.")
    requirements = models.JSONField(default=list, help_text="What Stripe still asks for.")
    problem = models.CharField(
        max_length=300, blank=True, help_text="Why the bank refused a payout, in words."
    )
    problem_mailed_at = models.DateTimeField(null=True, blank=True)
    minimum_cents = models.PositiveIntegerField(default=2500)
    key_attempt = models.PositiveSmallIntegerField(
        default=0, help_text="Part of the idempotency key of the account's creation."
    )
    seen_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Webhooks name the account."""

        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["stripe_account_id"], name="payout_account_stripe")
        ]

    def __str__(self) -> str:
        return self.stripe_account_id or f"payouts of {self.org_id}"


class StatementStatus(models.TextChoices):
    """What became of a statement. A draft may be computed anew; after that nothing changes."""

    DRAFT = "draft"
    CARRIED = "carried"
    PAYABLE = "payable"
    PAID = "paid"


class Statement(models.Model):
    """What one vendor earned by the end of one UTC month, what was taken back, what is paid.

    payable = carried_in + earned − clawed_back, where earned includes payouts that were taken
    back, because they are owed again: `returned_nano` of it. Whole cents are paid out, the
    rest and what is below the minimum is carried on, with the reason in `reason`.
    """

    id = models.UUIDField(primary_key=True)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="statements")
    month = models.DateField()
    number = models.CharField(max_length=24, unique=True, null=True, blank=True)
    status = models.CharField(max_length=8, choices=StatementStatus, default=StatementStatus.DRAFT)
    carried_in_nano = models.BigIntegerField(default=0)
    earned_nano = models.BigIntegerField(default=0)
    clawed_back_nano = models.BigIntegerField(default=0)
    pending_nano = models.BigIntegerField(
        default=0, help_text="Earned, but the customers' invoices are not paid yet."
    )
    payout_cents = models.BigIntegerField(default=0)
    carried_out_nano = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """One statement per vendor and month; it adds up."""

        ordering: ClassVar[list[str]] = ["-month"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "month"], name="statement_month"),
            models.CheckConstraint(
                condition=Q(
                    carried_out_nano=F("carried_in_nano")
                    + F("earned_nano")
                    - F("clawed_back_nano")
                    - F("payout_cents") * 10_000_000
                )
                & Q(earned_nano__gte=0, clawed_back_nano__gte=0, payout_cents__gte=0),
                name="statement_adds_up",
            ),
        ]

    def __str__(self) -> str:
        return self.number or f"draft for {self.month:%Y-%m}"

    @property
    def returned_nano(self) -> int:
        """Return what of `earned_nano` was not earned: earlier payouts that were taken back."""
        if (known := getattr(self, "returned", None)) is not None:
            return int(known)
        lines = self.lines.filter(version_id=NO_VERSION)
        return int(lines.aggregate(sum=Coalesce(Sum("earned_nano"), 0))["sum"])

    @property
    def shares_nano(self) -> int:
        """Return what was earned by calls."""
        return self.earned_nano - self.returned_nano


class StatementEntry(models.Model):
    """Puts one transfer to or from a vendor's payable account into one statement, for good."""

    transfer = models.OneToOneField(
        Transfer, models.PROTECT, primary_key=True, related_name="statement_entry"
    )
    statement = models.ForeignKey(Statement, models.PROTECT, related_name="entries")
    line = models.PositiveIntegerField(help_text="The position of the line that it counts in.")

    def __str__(self) -> str:
        return f"{self.transfer_id} in {self.statement_id}"


class StatementLine(models.Model):
    """Earnings by one model under one licence from payers of one country."""

    statement = models.ForeignKey(Statement, models.CASCADE, related_name="lines")
    position = models.PositiveIntegerField()
    model_ref = models.CharField(max_length=81)
    version_id = models.UUIDField(help_text="The version that was called.")
    licence_id = models.UUIDField(null=True)
    royalty = models.BooleanField(help_text="Earned by a model derived from the vendor's.")
    country = models.CharField(max_length=2, blank=True, help_text="The payer's.")
    month = models.DateField(help_text="When the usage occurred.")
    calls = models.PositiveIntegerField()
    earned_nano = models.BigIntegerField()
    clawed_back_nano = models.BigIntegerField()

    class Meta:
        """Lines are numbered."""

        ordering: ClassVar[list[str]] = ["position"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["statement", "position"], name="statement_line")
        ]

    def __str__(self) -> str:
        return f"{self.model_ref}: {self.earned_nano} n$"

    @property
    def returned_nano(self) -> int:
        """Return what of `earned_nano` are payouts taken back: all of it or nothing."""
        return self.earned_nano if self.version_id == NO_VERSION else 0


class PayoutState(models.TextChoices):
    """What is known of a payout. In doubt it stays sent: money is never sent twice."""

    INTENT = "intent"
    SENT = "sent"
    RETURNED = "returned"


class Payout(OutboxRow):
    """The Connect transfer of one statement. `id` is the statement's, and the idempotency key."""

    lease_s = 120

    statement = models.OneToOneField(
        Statement, models.PROTECT, primary_key=True, related_name="payout"
    )
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="payouts")
    cents = models.BigIntegerField()
    state = models.CharField(max_length=8, choices=PayoutState, default=PayoutState.INTENT)
    stripe_transfer_id = models.CharField(max_length=64, blank=True)
    reversed_cents = models.BigIntegerField(default=0)
    key_attempt = models.PositiveSmallIntegerField(
        default=0, help_text="Part of the idempotency key: raised only when Stripe has decided."
    )
    needs_approval = models.BooleanField(default=False, help_text="Staff must release it first.")
    approved_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Something is paid, and no more taken back than was paid."""

        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(delivery="pending"), name="payout_due"
            )
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(cents__gt=0, reversed_cents__gte=0, reversed_cents__lte=F("cents")),
                name="payout_in_bounds",
            )
        ]

    def __str__(self) -> str:
        return f"{self.cents} cents to {self.org_id}"
