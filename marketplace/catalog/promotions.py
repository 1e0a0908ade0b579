"""Redeems promotion codes: a code becomes credit at the platform's expense.

Credit, not a discount: the charge stays what it is, so every vendor is paid in full.
"""

from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import F, Q

from billing.services import credit_grant
from marketplace.accounts import audit
from marketplace.accounts.models import Organisation, User
from marketplace.catalog.promotion_models import Promotion, PromotionUse
from marketplace.core import limits
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.text import printable

TRIES_PER_HOUR = 20
"""How many codes an organisation, or a person, may try: enough for typing, too few for guessing."""


def _limit(org: Organisation, user: User | None) -> None:
    """Raise TooManyRequests after too many tries by an organisation, or by a person in several."""
    for who in [f"{org.pk}", *([f"user:{user.pk}"] if user else [])]:
        bucket = f"promotion:{who}"
        limits.require("codes were tried", bucket, TRIES_PER_HOUR / 3600, TRIES_PER_HOUR)


def _refuse(why: str) -> InvalidInput:
    return InvalidInput(why, code="promotion_refused", fields={"code": [why]})


def _once(promotion: Promotion, org: Organisation, user: User) -> None:
    """Raise WrongState if `user` has used the code for another organisation."""
    User.objects.select_for_update().get(pk=user.pk)  # two organisations at once wait here
    others = PromotionUse.objects.filter(promotion=promotion, user=user).exclude(org=org)
    if others.exists():
        raise WrongState("You have used this code already.", code="promotion_used")


def promotion_redeem(*, org: Organisation, code: str, user: User | None = None) -> Promotion:
    """Give `org` the credit of a code: once, and once for `user` in whichever organisation.

    Raises InvalidInput, WrongState or TooManyRequests.
    """
    _limit(org, user)
    moment = now()
    promotion = Promotion.objects.filter(code=printable(code).strip().upper()[:40]).first()
    if promotion is None:
        raise _refuse("There is no such code.")
    if promotion.starts_at > moment:
        raise _refuse("This code cannot be used yet.")
    if promotion.ends_at is not None and promotion.ends_at <= moment:
        raise _refuse("This code has expired.")
    days = promotion.credit_days
    try:
        with transaction.atomic():
            if user is not None:
                _once(promotion, org, user)
            PromotionUse.objects.create(promotion=promotion, org=org, user=user)
            audit.record(org=org, action="billing.code", target=promotion.code)
            left = Promotion.objects.filter(
                Q(max_uses__isnull=True) | Q(uses__lt=F("max_uses")), pk=promotion.pk
            ).update(uses=F("uses") + 1)
            if not left:
                raise _refuse("This code has been used as often as it can be.")
            credit_grant(
                org_id=org.pk,
                amount_nano=promotion.amount_nano,
                source=f"promotion:{promotion.pk}:{org.pk}",
                expires_at=None if days is None else moment + timedelta(days=days),
                model_id=promotion.model_id,
                note=f"Promotion code {promotion.code}",
            )
    except IntegrityError as error:
        if not PromotionUse.objects.for_org(org).filter(promotion=promotion).exists():
            raise
        raise WrongState(
            f"{org.name} has used this code already.", code="promotion_used"
        ) from error
    promotion.refresh_from_db()
    return promotion
