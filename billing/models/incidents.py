"""What people must be told: broken rules to staff, budgets that run out to customers."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from marketplace.accounts.models import Organisation
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.ids import new_id


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


class SpendAlert(models.Model):
    """One threshold that one subject crossed in one month: told once, by e-mail and webhook."""

    org = models.ForeignKey(Organisation, models.PROTECT, related_name="spend_alerts")
    subject_id = models.UUIDField()
    subject = models.CharField(max_length=120, help_text="What has the limit, for people.")
    month = models.DateField()
    percent = models.PositiveSmallIntegerField(help_text="0: the balance is low.")
    spent_nano = models.BigIntegerField()
    limit_nano = models.BigIntegerField()
    created_at = models.DateTimeField(default=now, editable=False)
    mailed_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Each threshold once a month."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["subject_id", "month", "percent"], name="spend_alert_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.subject}"

    @property
    def left_nano(self) -> int:
        """What of the budget was not spent, in nano-USD; running jobs may have held some of it."""
        return max(0, self.limit_nano - self.spent_nano)

    @property
    def is_refusal(self) -> bool:
        """Whether a call did not fit into what was left of a budget, which so counts as spent."""
        return self.percent == 100 and self.spent_nano < self.limit_nano
