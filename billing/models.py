"""Tables of the ledger (append-only), wallets, holds, charges and meter batches."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from marketplace.accounts.models import Organisation
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.ids import new_id
from marketplace.core.outbox import OutboxRow


class AccountKind(models.TextChoices):
    """The chart of accounts. The first three exist once per organisation, the rest once."""

    WALLET = "wallet"  # what we owe a developer: prepaid credit not yet used
    RECEIVABLE = "receivable"  # what a developer owes us: used, to be invoiced
    PAYABLE = "payable"  # what we owe a vendor
    REVENUE = "revenue"  # what the platform keeps
    CLEARING = "clearing"  # passes each charge from its funding to its shares; always nets to 0
    CASH = "cash"  # money received
    PROMOTION = "promotion"  # credit given away, at the platform's expense


class TransferKind(models.TextChoices):
    """Why money moved."""

    TOP_UP = "top_up"
    GRANT = "grant"
    FUND_PREPAID = "fund_prepaid"
    FUND_POSTPAID = "fund_postpaid"
    SHARE = "share"
    FEE = "fee"


class Account(models.Model):
    """An account has no stored balance: it is the sum of its transfers."""

    id = models.BigAutoField(primary_key=True)
    org = models.ForeignKey(
        Organisation, models.PROTECT, null=True, blank=True, related_name="accounts"
    )
    kind = models.CharField(max_length=12, choices=AccountKind)

    class Meta:
        """One account of a kind per organisation, or for the platform."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["org", "kind"], name="account_of_org", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.org or 'platform'}"


class Transfer(models.Model):
    """One ledger row: `amount_nano` goes from the debited to the credited account, for good.

    A trigger refuses UPDATE and DELETE; (source_id, kind, leg) is unique, so a repeated
    settlement cannot post twice. `id` is derived from those three.
    """

    id = models.UUIDField(primary_key=True)
    debit = models.ForeignKey(Account, models.PROTECT, related_name="debits")
    credit = models.ForeignKey(Account, models.PROTECT, related_name="credits")
    amount_nano = models.BigIntegerField()
    kind = models.CharField(max_length=14, choices=TransferKind)
    source_id = models.UUIDField(help_text="The job, top-up or grant that caused it.")
    leg = models.PositiveSmallIntegerField(default=0)
    occurred_at = models.DateTimeField()
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        """Amounts are positive; both sides differ."""

        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["debit", "occurred_at"], name="transfer_debit"),
            models.Index(fields=["credit", "occurred_at"], name="transfer_credit"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["source_id", "kind", "leg"], name="transfer_once"),
            models.CheckConstraint(condition=Q(amount_nano__gt=0), name="transfer_positive"),
            models.CheckConstraint(condition=~Q(debit=F("credit")), name="transfer_two_sides"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_nano} n$"


class Wallet(models.Model):
    """The one balance that is stored, so that a hold is one conditional update.

    available = prepaid + credit_limit − owed − held; it equals the replayed ledger (audited).
    """

    org = models.OneToOneField(
        Organisation, models.PROTECT, primary_key=True, related_name="wallet"
    )
    prepaid_nano = models.BigIntegerField(default=0)
    owed_nano = models.BigIntegerField(default=0)
    held_nano = models.BigIntegerField(default=0)
    credit_limit_nano = models.BigIntegerField(default=0)
    stripe_customer_id = models.CharField(max_length=64, blank=True)
    stripe_customer_attempt = models.PositiveSmallIntegerField(default=0)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """No part is ever negative."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(prepaid_nano__gte=0)
                & Q(owed_nano__gte=0)
                & Q(held_nano__gte=0)
                & Q(credit_limit_nano__gte=0),
                name="wallet_not_negative",
            )
        ]

    def __str__(self) -> str:
        return f"wallet of {self.org_id}"

    @property
    def available_nano(self) -> int:
        """Return what can still be held."""
        return self.prepaid_nano + self.credit_limit_nano - self.owed_nano - self.held_nano


class SpendCap(models.Model):
    """Spending of one subject (an API key) in one UTC month against a limit."""

    subject_id = models.UUIDField()
    month = models.DateField()
    spent_nano = models.BigIntegerField(default=0)
    held_nano = models.BigIntegerField(default=0)

    class Meta:
        """One row per subject and month."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["subject_id", "month"], name="cap_month"),
            models.CheckConstraint(
                condition=Q(spent_nano__gte=0) & Q(held_nano__gte=0), name="cap_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject_id} in {self.month:%Y-%m}"


class HoldState(models.TextChoices):
    """A hold ends once: captured into a charge or released."""

    OPEN = "open"
    CAPTURED = "captured"
    RELEASED = "released"


class Hold(models.Model):
    """What is reserved for one source (a job) until it ends."""

    source_id = models.UUIDField(primary_key=True)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="holds")
    amount_nano = models.BigIntegerField()
    state = models.CharField(max_length=8, choices=HoldState, default=HoldState.OPEN)
    cap_subject_id = models.UUIDField(null=True, blank=True)
    cap_month = models.DateField(null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """A hold of nothing is possible: a free model."""

        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["org"], condition=Q(state="open"), name="hold_open")
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount_nano__gte=0), name="hold_not_negative")
        ]

    def __str__(self) -> str:
        return f"{self.state} hold for {self.source_id}"


class Funding(models.TextChoices):
    """Where a charge's money came from."""

    PREPAID = "prepaid"
    POSTPAID = "postpaid"


class MeterBatch(OutboxRow):
    """Usage of one organisation in one UTC minute, sealed: what Stripe is told, once.

    `id` is the identifier that Stripe deduplicates by. `micro_usd` carries remainders: the sums
    over an organisation's batches equal floor(nano-USD / 1000) of its charges.
    """

    lease_s = 180

    id = models.UUIDField(primary_key=True)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="meter_batches")
    funding = models.CharField(max_length=8, choices=Funding)
    minute = models.DateTimeField()
    sequence = models.PositiveIntegerField()
    amount_nano = models.BigIntegerField()
    cumulative_nano = models.BigIntegerField()
    micro_usd = models.BigIntegerField()
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Batches of an organisation are numbered without gaps, per funding."""

        verbose_name_plural = "meter batches"

        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(delivery="pending"), name="batch_due"
            )
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "funding", "sequence"], name="batch_sequence"),
            models.CheckConstraint(condition=Q(amount_nano__gt=0), name="batch_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.micro_usd} µ$ {self.funding} of {self.org_id}"


class Charge(models.Model):
    """What one source (a job) cost, who paid and why: written once, when it ends.

    A failed job has a charge of zero, so that every job is accounted for.
    """

    source_id = models.UUIDField(primary_key=True)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="charges")
    vendor = models.ForeignKey(Organisation, models.PROTECT, related_name="sales")
    version_id = models.UUIDField()
    price_id = models.UUIDField()
    quote_nano = models.BigIntegerField()
    amount_nano = models.BigIntegerField()
    prepaid_nano = models.BigIntegerField()
    postpaid_nano = models.BigIntegerField()
    vendors_nano = models.BigIntegerField()
    fee_nano = models.BigIntegerField()
    lines = models.JSONField()
    shares = models.JSONField(help_text="Who was owed what: [{org_id, bps, amount_nano}].")
    occurred_at = models.DateTimeField()
    prepaid_batch = models.ForeignKey(
        MeterBatch, models.PROTECT, null=True, related_name="prepaid_charges"
    )
    postpaid_batch = models.ForeignKey(
        MeterBatch, models.PROTECT, null=True, related_name="postpaid_charges"
    )
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Funding = amount = shares + fee, and never above the quote."""

        ordering: ClassVar[list[str]] = ["-occurred_at"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["org", "-occurred_at"], name="charge_org"),
            models.Index(fields=["vendor", "-occurred_at"], name="charge_vendor"),
            models.Index(
                fields=["org", "occurred_at"],
                condition=Q(prepaid_batch__isnull=True, prepaid_nano__gt=0),
                name="charge_unsealed_pre",
            ),
            models.Index(
                fields=["org", "occurred_at"],
                condition=Q(postpaid_batch__isnull=True, postpaid_nano__gt=0),
                name="charge_unsealed_post",
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(amount_nano=F("prepaid_nano") + F("postpaid_nano"))
                & Q(amount_nano=F("vendors_nano") + F("fee_nano")),
                name="charge_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(amount_nano__gte=0, prepaid_nano__gte=0, postpaid_nano__gte=0)
                & Q(amount_nano__lte=F("quote_nano"))
                & Q(vendors_nano__gte=0, fee_nano__gte=0),
                name="charge_in_bounds",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nano} n$ for {self.source_id}"


class Incident(models.Model):
    """An invariant that did not hold, or a message that cannot be delivered: for staff."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    rule = models.CharField(max_length=60)
    detail = models.TextField()
    opened_at = models.DateTimeField(default=now, editable=False)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """One open incident per rule."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["rule"], condition=Q(resolved_at__isnull=True), name="incident_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.rule} since {self.opened_at:%Y-%m-%d %H:%M}"
