"""What an organisation can spend: wallets in shards, grants, monthly caps, and holds on them."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from marketplace.accounts.models import Organisation
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.ids import new_id


class Wallet(models.Model):
    """An organisation as a customer. Its money is in its shards, so that many can pay at once."""

    org = models.OneToOneField(
        Organisation, models.PROTECT, primary_key=True, related_name="wallet"
    )
    shard_count = models.PositiveSmallIntegerField(default=1)
    stripe_customer_id = models.CharField(max_length=64, blank=True)
    stripe_customer_attempt = models.PositiveSmallIntegerField(default=0)
    stripe_subscription_id = models.CharField(max_length=64, blank=True, db_default="")
    stripe_subscription_attempt = models.PositiveSmallIntegerField(default=0, db_default=0)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """At least one shard."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(shard_count__gte=1, shard_count__lte=64), name="wallet_shard_count"
            )
        ]

    def __str__(self) -> str:
        return f"wallet of {self.org_id}"


class WalletShard(models.Model):
    """A part of a wallet: the one balance that is stored, so that a hold is one update.

    available = prepaid + limit − owed − held. Sums over an organisation's shards equal the
    replayed ledger and the open holds (audited). Grants are apart.
    """

    org = models.ForeignKey(Organisation, models.PROTECT, related_name="wallet_shards")
    shard = models.PositiveSmallIntegerField(default=0)
    prepaid_nano = models.BigIntegerField(default=0)
    owed_nano = models.BigIntegerField(default=0)
    held_nano = models.BigIntegerField(default=0)
    limit_nano = models.BigIntegerField(default=0)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """No part is ever negative."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "shard"], name="wallet_shard"),
            models.CheckConstraint(
                condition=Q(
                    prepaid_nano__gte=0, owed_nano__gte=0, held_nano__gte=0, limit_nano__gte=0
                ),
                name="wallet_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"shard {self.shard} of the wallet of {self.org_id}"


class Grant(models.Model):
    """Credit given away: used before money, by (priority, expiry, id). Vendors are paid for it.

    `model_id` and `vendor_id` limit what it pays for; none means anything.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="grants")
    amount_nano = models.BigIntegerField()
    remaining_nano = models.BigIntegerField()
    held_nano = models.BigIntegerField(default=0)
    priority = models.PositiveSmallIntegerField(default=50, help_text="0 is used first, 100 last.")
    expires_at = models.DateTimeField(null=True, blank=True)
    model_id = models.UUIDField(null=True, blank=True)
    vendor_id = models.UUIDField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)
    expiries = models.PositiveSmallIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """0 ≤ held ≤ remaining ≤ amount."""

        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["org"], condition=Q(remaining_nano__gt=0), name="grant_open")
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(
                    held_nano__gte=0,
                    held_nano__lte=F("remaining_nano"),
                    remaining_nano__lte=F("amount_nano"),
                    priority__lte=100,
                ),
                name="grant_in_bounds",
            )
        ]

    def __str__(self) -> str:
        return f"{self.remaining_nano} of {self.amount_nano} n$ for {self.org_id}"


class SpendCap(models.Model):
    """Spending of a subject (organisation, project or API key) in one UTC month, for its limit."""

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
    """What is reserved for one source (a job) until it ends.

    Draws on grants come first; the rest, `wallet_nano`, is held in one shard of the wallet.
    """

    source_id = models.UUIDField(primary_key=True)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="holds", db_index=False)
    amount_nano = models.BigIntegerField()
    wallet_nano = models.BigIntegerField()
    shard = models.PositiveSmallIntegerField(default=0)
    state = models.CharField(max_length=8, choices=HoldState, default=HoldState.OPEN)
    cap_subjects = ArrayField(models.UUIDField(), default=list, blank=True)
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
            models.CheckConstraint(
                condition=Q(
                    amount_nano__gte=0, wallet_nano__gte=0, wallet_nano__lte=F("amount_nano")
                ),
                name="hold_in_bounds",
            )
        ]

    def __str__(self) -> str:
        return f"{self.state} hold for {self.source_id}"


class Draw(models.Model):
    """How much of a hold one grant covers, and how much of that was captured."""

    source = models.ForeignKey(Hold, models.PROTECT, related_name="draws", db_column="source_id")
    grant = models.ForeignKey(Grant, models.PROTECT, related_name="draws")
    position = models.PositiveSmallIntegerField()
    held_nano = models.BigIntegerField()
    captured_nano = models.BigIntegerField(default=0)

    class Meta:
        """A grant is drawn on once per hold, in the order of `position`."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["source", "grant"], name="draw_once"),
            models.CheckConstraint(
                condition=Q(
                    held_nano__gt=0, captured_nano__gte=0, captured_nano__lte=F("held_nano")
                ),
                name="draw_in_bounds",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.held_nano} n$ of {self.grant_id} for {self.source_id}"
