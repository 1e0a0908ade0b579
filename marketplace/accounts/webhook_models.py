"""Tables of webhooks out: an organisation's endpoints, and the events of its account."""

from datetime import timedelta
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import F, Q

from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.ids import new_id
from marketplace.core.outbox import Delivery
from marketplace.core.webhooks import URL_LENGTH, WebhookRow

DEAF_FOR = timedelta(hours=24)
DEAF_GIVEN_UP = 5
"""An endpoint is switched off when nothing got through for so long, and so many were given up."""
MISSED_FOR = timedelta(days=7)
"""For so long after that its events are still written down, to be sent by a replay."""
OFF = "The endpoint is switched off."


class HookEvent(models.TextChoices):
    """What an endpoint can be told of."""

    JOB_SUCCEEDED = "job.succeeded", "A job has succeeded"
    JOB_FAILED = "job.failed", "A job has failed"
    JOB_CANCELLED = "job.cancelled", "A job was cancelled"
    BUDGET_ALERT = "budget.alert", "A budget runs out"
    BALANCE_LOW = "balance.low", "The balance is low"


class EndpointQuerySet(OrgQuerySet["WebhookEndpoint"]):
    """Endpoints."""

    def in_use(self) -> "EndpointQuerySet":
        """Return those that were not removed."""
        return self.filter(removed_at__isnull=True)

    def told_of(self, event: str) -> "EndpointQuerySet":
        """Return those for which an event is written: also those that went deaf of late."""
        missed = Q(off_at__gt=now() - MISSED_FOR) & ~Q(off_why="")
        return self.in_use().filter(Q(off_at__isnull=True) | missed, events__contains=[event])


class WebhookEndpoint(models.Model):
    """An address of an organisation's server, which is told of the events it subscribes to."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(
        "accounts.Organisation", models.CASCADE, related_name="webhook_endpoints"
    )
    url = models.URLField(max_length=URL_LENGTH)
    events = ArrayField(models.CharField(max_length=20, choices=HookEvent))
    note = models.CharField(max_length=120, blank=True)
    created_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(default=now, editable=False)
    off_at = models.DateTimeField(null=True, blank=True, help_text="Since then it is told nothing.")
    off_why = models.CharField(
        max_length=200, blank=True, help_text="Why the platform did that; empty: a person did."
    )
    off_mailed_at = models.DateTimeField(null=True, blank=True, editable=False)
    failing_since = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Since then nothing got through."
    )
    given_up = models.PositiveIntegerField(
        default=0, editable=False, help_text="Deliveries given up since then."
    )
    removed_at = models.DateTimeField(null=True, blank=True)
    objects = EndpointQuerySet.as_manager()

    class Meta:
        """An address stands once in an organisation."""

        ordering: ClassVar[list[str]] = ["-created_at", "-id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["org", "url"],
                condition=Q(removed_at__isnull=True),
                name="one_endpoint_per_url",
            )
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["off_at"],
                condition=Q(off_at__isnull=False, off_mailed_at__isnull=True) & ~Q(off_why=""),
                name="endpoint_off_untold",
            )
        ]

    def __str__(self) -> str:
        return self.note or str(self.pk)

    @property
    def is_on(self) -> bool:
        """Tell whether it is told of events."""
        return self.off_at is None and self.removed_at is None

    def switch_off(self, why: str) -> bool:
        """Switch it off for a reason that is mailed, "" for a person who knows. False if it was.

        What waits to be sent to it counts as failed from now on.
        """
        on = WebhookEndpoint.objects.filter(pk=self.pk, off_at__isnull=True)
        if not on.update(off_at=now(), off_why=why, off_mailed_at=None):
            return False
        self.refresh_from_db()
        self.drop_pending()
        return True

    def drop_pending(self) -> None:
        """Give up what waits to be sent to it."""
        several: tuple[Any, ...] = (self.account_events, self.webhook_deliveries)
        for rows in several:
            rows.filter(delivery=Delivery.PENDING).update(delivery=Delivery.FAILED, last_error=OFF)

    def heard(self) -> None:
        """Note that an event got through."""
        WebhookEndpoint.objects.filter(pk=self.pk, failing_since__isnull=False).update(
            failing_since=None, given_up=0
        )

    def unheard(self, *, given_up: bool, gone: bool) -> None:
        """Note that an event did not get through; when that lasts, switch it off."""
        rows, moment = WebhookEndpoint.objects.filter(pk=self.pk), now()
        rows.filter(failing_since__isnull=True).update(failing_since=moment)
        if given_up:
            rows.update(given_up=F("given_up") + 1)
        if gone:
            self._give_up_on("Your server answered 410 Gone.")
        elif given_up and rows.filter(
            failing_since__lte=moment - DEAF_FOR, given_up__gte=DEAF_GIVEN_UP
        ):
            hours = DEAF_FOR // timedelta(hours=1)
            self._give_up_on(f"Nothing got through for {hours} hours.")

    def _give_up_on(self, why: str) -> None:
        from marketplace.accounts import audit  # which needs the tables of accounts

        with transaction.atomic():
            if self.switch_off(why):
                audit.record(org=self.org, action="webhook.off", target=self.url, why=why)


class EndpointRow(WebhookRow):
    """Base of tables of events that go to an endpoint, or to an address that a job named."""

    claim_with = ("org", "endpoint")

    class Meta:
        """No table of its own."""

        abstract = True

    @property
    def _endpoint(self) -> WebhookEndpoint | None:
        endpoint: WebhookEndpoint | None = getattr(self, "endpoint")  # noqa: B009
        return endpoint

    @property
    def secrets(self) -> list[str]:
        """Return the organisation's signing secrets."""
        secrets: list[str] = getattr(self, "org").webhook_secrets  # noqa: B009
        return secrets

    @property
    def held_back(self) -> str:
        """Return why it must not be sent, "" if it may."""
        return "" if self._endpoint is None or self._endpoint.is_on else OFF

    def on_delivered(self) -> None:
        """Note that the endpoint hears."""
        if self._endpoint is not None:
            self._endpoint.heard()

    def on_failed(self, *, given_up: bool, gone: bool) -> None:
        """Note that the endpoint did not hear."""
        if self._endpoint is not None:
            self._endpoint.unheard(given_up=given_up, gone=gone)


class AccountEvent(EndpointRow):
    """One event of an organisation's account for one endpoint, as it was written then."""

    id = models.UUIDField(primary_key=True)
    org = models.ForeignKey("accounts.Organisation", models.PROTECT, related_name="account_events")
    endpoint = models.ForeignKey(
        WebhookEndpoint, models.SET_NULL, null=True, related_name="account_events"
    )
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Due rows are found by a partial index."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(delivery="pending"),
                name="account_event_due",
            ),
            models.Index(fields=["org", "-created_at", "-id"], name="account_event_newest"),
        ]
