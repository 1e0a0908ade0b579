"""What a developer is told at the end of a month, and what takes it back."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q, Sum

from marketplace.accounts.models import Organisation, User
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now


class InvoiceStatus(models.TextChoices):
    """Where an invoice stands. A draft may be computed anew; from open on nothing changes."""

    DRAFT = "draft"
    OPEN = "open"
    PAID = "paid"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"


class Invoice(models.Model):
    """Usage of one organisation in one UTC month: what credit paid, and what is due.

    Each charge is in one invoice. `due_cents` is the postpaid part in whole cents; what is less
    than a cent went to the rounding account. The sums can be below zero for credit: money given
    back for calls of an earlier month.
    """

    id = models.UUIDField(primary_key=True)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="invoices")
    month = models.DateField()
    number = models.CharField(max_length=24, unique=True, null=True, blank=True)
    status = models.CharField(max_length=14, choices=InvoiceStatus, default=InvoiceStatus.DRAFT)
    granted_nano = models.BigIntegerField(default=0)
    prepaid_nano = models.BigIntegerField(default=0)
    postpaid_nano = models.BigIntegerField(default=0)
    due_cents = models.BigIntegerField(default=0)
    paid_cents = models.BigIntegerField(default=0)
    bill_to = models.JSONField(default=dict, help_text="Name, address, tax id when it was issued.")
    stripe_invoice_id = models.CharField(max_length=64, blank=True)
    hosted_url = models.CharField(max_length=500, blank=True, db_default="")
    stripe_finalized_at = models.DateTimeField(null=True, blank=True)
    held = models.CharField(
        max_length=300, blank=True, db_default="", help_text="Why it is still a draft."
    )
    approved_at = models.DateTimeField(null=True, blank=True)
    approved_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    issued_at = models.DateTimeField(null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """One invoice per organisation and month."""

        ordering: ClassVar[list[str]] = ["-month"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "month"], name="invoice_month"),
            models.CheckConstraint(
                condition=Q(due_cents__gte=0, paid_cents__gte=0, paid_cents__lte=F("due_cents")),
                name="invoice_in_bounds",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["issued_at"],
                condition=Q(mailed_at__isnull=True, issued_at__isnull=False),
                name="invoice_to_mail",
            ),
            models.Index(
                fields=["stripe_invoice_id"],
                condition=~Q(stripe_invoice_id=""),
                name="invoice_at_stripe",
            ),
        ]

    def __str__(self) -> str:
        return self.number or f"draft for {self.month:%Y-%m}"

    @property
    def outstanding_cents(self) -> int:
        """What is still to be paid: nothing unless it is open."""
        if self.status != InvoiceStatus.OPEN:
            return 0
        notes = self.credit_notes.filter(to_balance=False).aggregate(sum=Sum("cents"))
        return self.due_cents - self.paid_cents - int(notes["sum"] or 0)

    @property
    def amount_nano(self) -> int:
        """All that the month's calls cost, whoever paid, less refunds."""
        return self.granted_nano + self.prepaid_nano + self.postpaid_nano


class InvoiceLine(models.Model):
    """Calls of one model at one price, in one invoice; late ones apart, under their true month."""

    invoice = models.ForeignKey(Invoice, models.CASCADE, related_name="lines")
    position = models.PositiveIntegerField()
    model_ref = models.CharField(max_length=81)
    version_id = models.UUIDField()
    price_id = models.UUIDField()
    unit = models.CharField(max_length=16)
    month = models.DateField(help_text="When the usage occurred.")
    calls = models.PositiveIntegerField()
    quantity = models.DecimalField(max_digits=26, decimal_places=6)
    amount_nano = models.BigIntegerField(help_text="All of it, whoever paid; refunds taken off.")
    granted_nano = models.BigIntegerField()
    prepaid_nano = models.BigIntegerField()
    postpaid_nano = models.BigIntegerField()
    due_cents = models.BigIntegerField()

    class Meta:
        """Lines are numbered; a line adds up."""

        ordering: ClassVar[list[str]] = ["position"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["invoice", "position"], name="invoice_line"),
            models.CheckConstraint(
                condition=Q(amount_nano=F("granted_nano") + F("prepaid_nano") + F("postpaid_nano")),
                name="invoice_line_adds_up",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_ref}: {self.calls} calls"


class CreditNote(models.Model):
    """What an issued invoice was lowered by, after the fact."""

    id = models.UUIDField(primary_key=True)
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="credit_notes")
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="credit_notes")
    number = models.CharField(max_length=28, unique=True)
    amount_nano = models.BigIntegerField()
    cents = models.BigIntegerField()
    to_balance = models.BooleanField(help_text="Paid back as prepaid credit, not off the debt.")
    stripe_credit_note_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Newest first."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(amount_nano__gt=0, cents__gte=0), name="credit_note_positive"
            )
        ]

    def __str__(self) -> str:
        return self.number


class NumberSequence(models.Model):
    """The last number given out of a gapless series: taken in the transaction that uses it."""

    name = models.CharField(max_length=16, primary_key=True)
    last = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.last}"
