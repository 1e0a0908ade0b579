"""What was charged and given back, and the batches in which Stripe hears of it."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing.models.invoices import CreditNote, Invoice
from marketplace.accounts.models import Organisation, User
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.outbox import Delivery, OutboxRow


class Funding(models.TextChoices):
    """Where a charge's money came from: credit and grants in advance, or to be invoiced."""

    PREPAID = "prepaid"
    POSTPAID = "postpaid"


class MeterBatch(OutboxRow):
    """Usage of one organisation in one UTC minute, sealed: what Stripe is told, once.

    `id` is the identifier that Stripe deduplicates by. `micro_usd` carries remainders: the sums
    over an organisation's batches equal floor(nano-USD / 1000) of its charges less refunds.
    """

    lease_s = 180

    id = models.UUIDField(primary_key=True)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="meter_batches")
    funding = models.CharField(max_length=8, choices=Funding)
    minute = models.DateTimeField()
    sequence = models.PositiveIntegerField()
    amount_nano = models.BigIntegerField(help_text="Below zero if refunds outweigh charges.")
    cumulative_nano = models.BigIntegerField()
    micro_usd = models.BigIntegerField()
    sent_in = models.CharField(
        max_length=100, blank=True, db_default="", help_text="Key of the request it was last in."
    )
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Batches of an organisation are numbered without gaps, per funding."""

        verbose_name_plural = "meter batches"

        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(delivery="pending"), name="batch_due"
            ),
            models.Index(
                fields=["created_at"], condition=Q(delivery="failed"), name="batch_failed"
            ),
            models.Index(fields=["org", "funding", "minute"], name="batch_minute"),
            models.Index(fields=["sent_in"], condition=~Q(sent_in=""), name="batch_sent_in"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "funding", "sequence"], name="batch_sequence"),
        ]

    def __str__(self) -> str:
        return f"{self.micro_usd} µ$ {self.funding} of {self.org_id}"

    @classmethod
    def known_to_stripe(cls, queryset: "models.QuerySet[MeterBatch]") -> int:
        """Record that Stripe has failed batches after all, as a person saw. Returns how many.

        The hourly comparison with Stripe's count still checks it.
        """
        return queryset.filter(delivery=Delivery.FAILED).update(
            delivery=Delivery.DELIVERED, delivered_at=now(), last_error=""
        )


class Charge(models.Model):
    """What one source (a job) cost, who paid and why: written once, when it ends.

    A failed job has a charge of zero, so that every job is accounted for. Only the batches and
    the invoice that it goes into are filled in later, once each.
    """

    source_id = models.UUIDField(primary_key=True)
    # The indexes below begin with them. No constraint in the database: it would lock a vendor's
    # row at each of its calls. The payer is the hold's, which has one, and the audit looks.
    org = models.ForeignKey(
        Organisation, models.PROTECT, related_name="charges", db_index=False, db_constraint=False
    )
    vendor = models.ForeignKey(
        Organisation, models.PROTECT, related_name="sales", db_index=False, db_constraint=False
    )
    version_id = models.UUIDField()
    price_id = models.UUIDField()
    model_ref = models.CharField(max_length=81, blank=True, help_text="vendor/name, at the time.")
    unit = models.CharField(max_length=16, blank=True)
    quantity = models.DecimalField(max_digits=20, decimal_places=6, default=0)
    quote_nano = models.BigIntegerField()
    amount_nano = models.BigIntegerField()
    granted_nano = models.BigIntegerField(default=0)
    prepaid_nano = models.BigIntegerField()
    postpaid_nano = models.BigIntegerField()
    vendors_nano = models.BigIntegerField()
    fee_nano = models.BigIntegerField()
    lines = models.JSONField()
    shares = models.JSONField(help_text="Who was owed what: [{org_id, bps, amount_nano}].")
    occurred_at = models.DateTimeField()
    prepaid_batch = models.ForeignKey(
        MeterBatch, models.PROTECT, null=True, related_name="prepaid_charges", db_index=False
    )
    postpaid_batch = models.ForeignKey(
        MeterBatch, models.PROTECT, null=True, related_name="postpaid_charges", db_index=False
    )
    invoice = models.ForeignKey(
        Invoice, models.PROTECT, null=True, related_name="charges", db_index=False
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
                condition=Q(prepaid_batch__isnull=True)
                & (Q(prepaid_nano__gt=0) | Q(granted_nano__gt=0)),
                name="charge_unsealed_pre",
            ),
            models.Index(
                fields=["org", "occurred_at"],
                condition=Q(postpaid_batch__isnull=True, postpaid_nano__gt=0),
                name="charge_unsealed_post",
            ),
            models.Index(
                fields=["org", "occurred_at"],
                condition=Q(invoice__isnull=True, amount_nano__gt=0),
                name="charge_uninvoiced",
            ),
            models.Index(
                fields=["invoice"], condition=Q(invoice__isnull=False), name="charge_invoiced"
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(amount_nano=F("granted_nano") + F("prepaid_nano") + F("postpaid_nano"))
                & Q(amount_nano=F("vendors_nano") + F("fee_nano")),
                name="charge_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(
                    amount_nano__gte=0,
                    granted_nano__gte=0,
                    prepaid_nano__gte=0,
                    postpaid_nano__gte=0,
                )
                & Q(amount_nano__lte=F("quote_nano"))
                & Q(vendors_nano__gte=0, fee_nano__gte=0),
                name="charge_in_bounds",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nano} n$ for {self.source_id}"


class RefundReason(models.TextChoices):
    """Why money was given back."""

    STAFF = "staff", "Decided by staff"
    FAILED = "failed", "The result was unusable"
    FILTERED = "filtered", "The output was filtered"
    PARTIAL = "partial", "Part of the output was missing"
    DUPLICATE = "duplicate", "Asked for twice by mistake"


class Refund(models.Model):
    """Money of a charge given back, in part or whole: written once, with mirror transfers.

    `id` is derived from the caller's key, so that a repetition refunds once. The parts say what
    had paid; what was invoiced already has a credit note, which says what became of it.
    """

    id = models.UUIDField(primary_key=True)
    charge = models.ForeignKey(Charge, models.PROTECT, related_name="refunds")
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="refunds")
    amount_nano = models.BigIntegerField()
    granted_nano = models.BigIntegerField()
    prepaid_nano = models.BigIntegerField()
    postpaid_nano = models.BigIntegerField()
    vendors_nano = models.BigIntegerField()
    fee_nano = models.BigIntegerField()
    reason = models.CharField(max_length=10, choices=RefundReason)
    note = models.CharField(max_length=500, blank=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    occurred_at = models.DateTimeField()
    prepaid_batch = models.ForeignKey(
        MeterBatch, models.PROTECT, null=True, related_name="prepaid_refunds"
    )
    postpaid_batch = models.ForeignKey(
        MeterBatch, models.PROTECT, null=True, related_name="postpaid_refunds"
    )
    invoice = models.ForeignKey(Invoice, models.PROTECT, null=True, related_name="refunds")
    credit_note = models.ForeignKey(CreditNote, models.PROTECT, null=True, related_name="refunds")
    objects = OrgQuerySet.as_manager()

    class Meta:
        """What comes back is what the vendors and the platform give up."""

        ordering: ClassVar[list[str]] = ["-occurred_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(amount_nano=F("granted_nano") + F("prepaid_nano") + F("postpaid_nano"))
                & Q(amount_nano=F("vendors_nano") + F("fee_nano"))
                & Q(
                    amount_nano__gt=0,
                    granted_nano__gte=0,
                    prepaid_nano__gte=0,
                    postpaid_nano__gte=0,
                    vendors_nano__gte=0,
                    fee_nano__gte=0,
                ),
                name="refund_adds_up",
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount_nano} n$ back for {self.charge_id}"
