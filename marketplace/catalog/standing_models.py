"""What the gallery sorts by, apart from the listings: `models` makes it part of the app."""

from typing import ClassVar

from django.db import models

from marketplace.core.clock import now


class Standing(models.Model):
    """How a model does: demand, speed and the price of one output, refreshed every minute.

    `calls_per_day` counts what others than its vendor asked for in the last 30 days,
    `median_ms` is how long its last successes ran, null before the first one, and
    `output_nano` what one output costs at the default settings, null if no input tells.
    """

    model = models.OneToOneField(
        "catalog.Model", models.CASCADE, primary_key=True, related_name="standing"
    )
    calls_per_day = models.FloatField(default=0)
    median_ms = models.PositiveIntegerField(null=True, blank=True)
    output_nano = models.BigIntegerField(null=True, blank=True)
    refreshed_at = models.DateTimeField(default=now)

    class Meta:
        """The most wanted first."""

        ordering: ClassVar[list[str]] = ["-calls_per_day"]

    def __str__(self) -> str:
        return f"{self.calls_per_day:.1f} calls a day"
