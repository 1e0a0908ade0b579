"""Money that comes in: top-ups, disputes, what Stripe tells us, and how a customer pays."""

from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Q

from billing.models.ledger import Transfer
from marketplace.accounts.models import Organisation, User
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.ids import new_id
from marketplace.core.outbox import OutboxRow


class BillingProfile(models.Model):
    """How an organisation is billed: address, tax id, and automatic recharge."""

    org = models.OneToOneField(
        Organisation, models.PROTECT, primary_key=True, related_name="billing_profile"
    )
    legal_name = models.CharField(max_length=200, blank=True)
    email = models.EmailField(blank=True, help_text="Invoices and alerts go here.")
    address = models.TextField(max_length=500, blank=True, help_text="Street lines.")
    city = models.CharField(max_length=100, blank=True)
    state = models.CharField(max_length=60, blank=True, help_text="Or province.")
    postal_code = models.CharField(max_length=20, blank=True)
    country = models.CharField(max_length=2, blank=True, help_text="ISO 3166 code.")
    tax_id_type = models.CharField(max_length=20, blank=True, help_text="As Stripe names it.")
    tax_id = models.CharField(max_length=40, blank=True)
    alert_below_nano = models.BigIntegerField(
        null=True, blank=True, help_text="Tell when less than this is available."
    )
    payment_method_id = models.CharField(max_length=64, blank=True)
    recharge_below_nano = models.BigIntegerField(null=True, blank=True)
    recharge_cents = models.PositiveIntegerField(default=0)
    recharge_monthly_cents = models.PositiveIntegerField(
        default=0, help_text="Most that is charged automatically in a UTC month; 0 is no limit."
    )
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Limits are not negative."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(recharge_below_nano__isnull=True) | Q(recharge_below_nano__gte=0),
                name="billing_profile_in_bounds",
            )
        ]

    def __str__(self) -> str:
        return f"billing of {self.org_id}"

    @property
    def address_lines(self) -> list[str]:
        """The address as lines of a letter, without the name."""
        town = " ".join(filter(None, [self.postal_code, self.city]))
        lines = [*self.address.splitlines(), town, self.state, self.country]
        return [line.strip() for line in lines if line.strip()]


class TopUpState(models.TextChoices):
    """What became of a payment in advance."""

    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"


class TopUp(models.Model):
    """A payment in advance: by a person through Checkout, or by automatic recharge.

    It is credited once, by whichever hears of the payment first: webhook, return page or poll.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="top_ups")
    cents = models.PositiveIntegerField(help_text="Of credit; tax comes on top.")
    tax_cents = models.PositiveIntegerField(default=0)
    automatic = models.BooleanField(default=False)
    state = models.CharField(max_length=8, choices=TopUpState, default=TopUpState.PENDING)
    checkout_id = models.CharField(max_length=128, blank=True)
    payment_intent_id = models.CharField(max_length=64, null=True, blank=True, unique=True)
    transfer = models.OneToOneField(
        Transfer, models.PROTECT, null=True, blank=True, related_name="top_up"
    )
    returned_cents = models.PositiveIntegerField(default=0)
    key_attempt = models.PositiveIntegerField(
        default=0, help_text="Stripe replays a stored 5xx under the same key: then the next one."
    )
    failure = models.CharField(max_length=300, blank=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """One automatic recharge of an organisation at a time."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["org"],
                condition=Q(automatic=True, state="pending"),
                name="one_recharge_in_flight",
            ),
            models.CheckConstraint(
                condition=Q(cents__gt=0, returned_cents__lte=F("cents")),
                name="top_up_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(state="paid", transfer__isnull=False)
                | (~Q(state="paid") & Q(transfer__isnull=True)),
                name="top_up_paid_is_credited",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.cents} cents for {self.org_id}"


class ReturnState(models.TextChoices):
    """What is known of a return. In doubt it stays pending: money is never sent back twice."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


class TopUpReturn(OutboxRow):
    """Unused prepaid money that goes back to the card it came from; taken from the wallet first.

    `id` is derived from the caller's key, names the ledger row and is what Stripe is told.
    """

    lease_s = 120
    max_attempts = 60

    id = models.UUIDField(primary_key=True)
    top_up = models.ForeignKey(TopUp, models.PROTECT, related_name="returns")
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="top_up_returns")
    cents = models.PositiveIntegerField()
    tax_cents = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=8, choices=ReturnState, default=ReturnState.PENDING)
    stripe_refund_id = models.CharField(max_length=64, blank=True)
    key_attempt = models.PositiveIntegerField(default=0, help_text="As that of a top-up.")
    note = models.CharField(max_length=200, blank=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Something is given back."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(cents__gt=0), name="top_up_return_positive")
        ]

    def __str__(self) -> str:
        return f"{self.cents} cents back to {self.org_id}"


class DisputeState(models.TextChoices):
    """How a dispute with a customer's bank stands."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


class Dispute(models.Model):
    """A payment that the customer's bank has taken back, for now or for good."""

    id = models.CharField(max_length=64, primary_key=True, help_text="Stripe's id.")
    source_id = models.UUIDField(
        unique=True, default=new_id, editable=False, help_text="Of its ledger rows."
    )
    reason = models.CharField(max_length=60, blank=True, help_text="In Stripe's words.")
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="disputes")
    payment_intent_id = models.CharField(max_length=64)
    cents = models.PositiveIntegerField()
    state = models.CharField(max_length=4, choices=DisputeState, default=DisputeState.OPEN)
    wallet_nano = models.BigIntegerField(default=0, help_text="Taken from the prepaid balance.")
    owed_nano = models.BigIntegerField(default=0, help_text="Made a debt: it was used already.")
    created_at = models.DateTimeField(default=now, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.id} over {self.cents} cents"


class StripeEvent(OutboxRow):
    """What Stripe told us: stored once by its id, then processed once, in any order."""

    lease_s = 120
    max_attempts = 30

    id = models.CharField(max_length=128, primary_key=True)
    type = models.CharField(max_length=100)
    object_id = models.CharField(max_length=128, blank=True)
    account_id = models.CharField(max_length=64, blank=True, help_text="The connected account's.")
    thin = models.BooleanField(default=False)
    payload = models.JSONField()

    class Meta:
        """Unprocessed ones are found quickly."""

        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(delivery="pending"), name="stripe_event_due"
            ),
            models.Index(
                fields=["created_at"], condition=Q(delivery="failed"), name="stripe_event_failed"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"

    @property
    def snapshot(self) -> dict[str, Any]:
        """The object as it was when Stripe sent this; empty for a thin event. Refetch it."""
        found: dict[str, Any] = (self.payload.get("data") or {}).get("object") or {}
        return {} if self.thin else found
