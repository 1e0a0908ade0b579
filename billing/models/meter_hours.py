"""What Stripe says it counted, hour by hour, beside what it was told."""

from typing import ClassVar

from django.db import models

from billing.models.charges import Funding
from marketplace.accounts.models import Organisation
from marketplace.accounts.querysets import OrgQuerySet


class MeterHour(models.Model):
    """Batches of one organisation delivered for one UTC hour, and Stripe's summary of it."""

    org = models.ForeignKey(Organisation, models.PROTECT, related_name="meter_hours")
    funding = models.CharField(max_length=8, choices=Funding)
    hour = models.DateTimeField()
    sent_micro_usd = models.BigIntegerField()
    seen_micro_usd = models.BigIntegerField()
    checked_at = models.DateTimeField()
    objects = OrgQuerySet.as_manager()

    class Meta:
        """One row per customer-hour and meter."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "funding", "hour"], name="meter_hour")
        ]

    def __str__(self) -> str:
        return f"{self.org_id} at {self.hour:%Y-%m-%d %H:00}: {self.seen_micro_usd} µ$"
