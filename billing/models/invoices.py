"""What a developer is told at the end of a month, and what takes it back."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from marketplace.accounts.models import Organisation
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
    than a cent went to the rounding account.
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
    created_at = models.DateTimeField(default=now, editable=False)
    issued_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """One invoice per organisation and month."""

        ordering: ClassVar[list[str]] = ["-month"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "month"], name="invoice_month"),
            models.CheckConstraint(
                condition=Q(
                    granted_nano__gte=0,
                    prepaid_nano__gte=0,
                    due_cents__gte=0,
                    paid_cents__gte=0,
                    paid_cents__lte=F("due_cents"),
                ),
                name="invoice_in_bounds",
            ),
        ]

    def __str__(self) -> str:
        return self.number or f"draft for {self.month:%Y-%m}"


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
