"""Tables of promotion codes, apart from the listings: `models` makes them part of the app."""

from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q

from marketplace.accounts.models import Organisation, User
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.ids import new_id


class Promotion(models.Model):
    """A code that gives an organisation credit once, at the platform's expense."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    code = models.CharField(
        max_length=40,
        unique=True,
        validators=[RegexValidator(r"^[A-Z0-9-]{4,40}$", "Use 4 to 40 of A–Z, 0–9 and hyphens.")],
    )
    amount_nano = models.BigIntegerField()
    starts_at = models.DateTimeField(default=now)
    ends_at = models.DateTimeField(null=True, blank=True)
    max_uses = models.PositiveIntegerField(null=True, blank=True)
    uses = models.PositiveIntegerField(default=0, editable=False)
    credit_days = models.PositiveIntegerField(
        null=True, blank=True, help_text="Days until unused credit expires. Empty: never."
    )
    model = models.ForeignKey(
        "catalog.Model",
        models.PROTECT,
        null=True,
        blank=True,
        help_text="The only model it pays for.",
    )
    note = models.CharField(max_length=200, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        """Never used more often than allowed."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount_nano__gt=0), name="promotion_positive"),
            models.CheckConstraint(
                condition=Q(max_uses__isnull=True) | Q(uses__lte=F("max_uses")),
                name="promotion_within_uses",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class PromotionUse(models.Model):
    """A code redeemed by an organisation: once."""

    promotion = models.ForeignKey(Promotion, models.PROTECT, related_name="redemptions")
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="promotion_uses")
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Once per organisation."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["promotion", "org"], name="promotion_once")
        ]

    def __str__(self) -> str:
        return f"{self.promotion} by {self.org_id}"
