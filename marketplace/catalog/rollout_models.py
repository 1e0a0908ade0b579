"""Tables of which version callers get who name a model alone, and when a version ends."""

from typing import ClassVar

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q

from marketplace.accounts.models import User
from marketplace.core.clock import now
from marketplace.core.ids import new_id


class Rollout(models.Model):
    """What `vendor/name` means: `stable`, and for some percent of organisations `canary`.

    A model without a row means its newest listed version.
    """

    model = models.OneToOneField("catalog.Model", models.PROTECT, related_name="rollout")
    stable = models.ForeignKey("catalog.Version", models.PROTECT, related_name="+")
    canary = models.ForeignKey(
        "catalog.Version", models.PROTECT, null=True, blank=True, related_name="+"
    )
    percent = models.PositiveSmallIntegerField(default=0, validators=[MaxValueValidator(100)])
    updated_at = models.DateTimeField(default=now)

    class Meta:
        """A share is of the whole; without a canary there is none."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(percent__lte=100), name="rollout_percent"),
            models.CheckConstraint(
                condition=Q(canary__isnull=False) | Q(percent=0), name="rollout_share_of_canary"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_id}: {self.percent} %"


class RolloutAction(models.TextChoices):
    """What was done to what callers get."""

    CANARY = "canary"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    DEPRECATE = "deprecate"
    KEEP = "keep"


class RolloutEvent(models.Model):
    """One change of what callers get: who, when, which version. Never changed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    model = models.ForeignKey("catalog.Model", models.PROTECT, related_name="rollout_events")
    version = models.ForeignKey("catalog.Version", models.PROTECT, related_name="+")
    action = models.CharField(max_length=10, choices=RolloutAction)
    percent = models.PositiveSmallIntegerField(null=True, blank=True)
    note = models.CharField(max_length=300, blank=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        """Newest first."""

        ordering: ClassVar[list[str]] = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.action} {self.version}"


class Retirement(models.Model):
    """A version that is deprecated, and the moment after which it cannot be called any more."""

    version = models.OneToOneField("catalog.Version", models.PROTECT, related_name="retirement")
    ends_at = models.DateTimeField()
    note = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)

    def __str__(self) -> str:
        return f"{self.version} until {self.ends_at:%Y-%m-%d}"
