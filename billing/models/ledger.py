"""The ledger itself: accounts, and transfers between them that never change."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from marketplace.accounts.models import Organisation
from marketplace.core.clock import now


class AccountKind(models.TextChoices):
    """The chart of accounts. The first four exist once per organisation, the rest once."""

    WALLET = "wallet"  # what we owe a developer: money paid in advance and not yet used
    GRANT = "grant"  # credit given to a developer and not yet used
    RECEIVABLE = "receivable"  # what a developer owes us: used, to be paid afterwards
    PAYABLE = "payable"  # what we owe a vendor; below zero it is to be earned back
    REVENUE = "revenue"  # what the platform keeps
    CLEARING = "clearing"  # passes each charge from its funding to its shares; always nets to 0
    CASH = "cash"  # money received, less money paid out
    PROMOTION = "promotion"  # credit given away, at the platform's expense
    ROUNDING = "rounding"  # parts of a cent that invoices cannot show
    PROCESSING = "processing"  # what the payment provider keeps
    LOSS = "loss"  # debts given up and payments taken back by a bank


class TransferKind(models.TextChoices):
    """Why money moved. `refund_*` mirrors the row that `reverses` names, in part or whole."""

    TOP_UP = "top_up"
    TOP_UP_RETURN = "top_up_return"
    GRANT = "grant"
    EXPIRE = "expire"
    FUND_GRANT = "fund_grant"
    FUND_PREPAID = "fund_prepaid"
    FUND_POSTPAID = "fund_postpaid"
    SHARE = "share"
    FEE = "fee"
    REFUND_GRANT = "refund_grant"
    REFUND_PREPAID = "refund_prepaid"
    REFUND_POSTPAID = "refund_postpaid"
    REFUND_SHARE = "refund_share"
    REFUND_FEE = "refund_fee"
    PAYMENT = "payment"
    APPLY = "apply"  # prepaid money used for a debt
    ROUNDING = "rounding"
    PROCESSING = "processing"
    PAYOUT = "payout"
    PAYOUT_RETURN = "payout_return"
    DISPUTE = "dispute"
    DISPUTE_WON = "dispute_won"
    WRITE_OFF = "write_off"


class Account(models.Model):
    """An account has no stored balance: it is the sum of its transfers. It never goes."""

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
    # No constraint in the database: it would lock the accounts that all calls share, at each
    # call. A trigger keeps accounts from ever going or changing, and the audit looks.
    debit = models.ForeignKey(
        Account, models.PROTECT, related_name="debits", db_index=False, db_constraint=False
    )
    credit = models.ForeignKey(
        Account, models.PROTECT, related_name="credits", db_index=False, db_constraint=False
    )
    amount_nano = models.BigIntegerField()
    kind = models.CharField(max_length=20, choices=TransferKind)
    source_id = models.UUIDField(help_text="The job, refund, top-up, grant, invoice … behind it.")
    leg = models.PositiveSmallIntegerField(default=0)
    reverses = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="reversals", db_index=False
    )
    occurred_at = models.DateTimeField()
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        """Amounts are positive; both sides differ."""

        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["debit", "occurred_at"], name="transfer_debit"),
            models.Index(fields=["credit", "occurred_at"], name="transfer_credit"),
            models.Index(fields=["kind", "occurred_at", "id"], name="transfer_kind"),
            models.Index(
                fields=["reverses"], condition=Q(reverses__isnull=False), name="transfer_reverses"
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["source_id", "kind", "leg"], name="transfer_once"),
            models.CheckConstraint(condition=Q(amount_nano__gt=0), name="transfer_positive"),
            models.CheckConstraint(condition=~Q(debit=F("credit")), name="transfer_two_sides"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_nano} n$"
