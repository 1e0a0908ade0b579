"""Redeems promotion codes: a code becomes credit at the platform's expense.

Credit, not a discount: the charge stays what it is, so every vendor is paid in full.
"""

from datetime import timedelta

import redis.exceptions
import structlog
from django.db import IntegrityError, transaction
from django.db.models import F, Q

from billing.services import credit_grant
from marketplace.accounts.models import Organisation, User
from marketplace.catalog.promotion_models import Promotion, PromotionUse
from marketplace.core import limits
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, TooManyRequests, WrongState
from marketplace.core.text import printable

log = structlog.get_logger("mercato.catalog.promotions")
TRIES_PER_HOUR = 20
"""How many codes an organisation may try: enough for typing, too few for guessing."""


def _limit(org: Organisation) -> None:
    """Raise TooManyRequests after too many tries; let pass while Valkey is away."""
    try:
        wait = limits.take(f"promotion:{org.pk}", TRIES_PER_HOUR / 3600, TRIES_PER_HOUR)
    except redis.exceptions.RedisError as error:
        log.warning("not limiting", error=repr(error))
        return
    if wait > 0:
        seconds = int(wait) + 1
        raise TooManyRequests(
            f"Too many codes were tried; try again in {seconds} s.", extra={"retry_after": seconds}
        )


def _refuse(why: str) -> InvalidInput:
    return InvalidInput(why, code="promotion_refused", fields={"code": [why]})


def promotion_redeem(*, org: Organisation, code: str, user: User | None = None) -> Promotion:
    """Give `org` the credit of a code, once. Raises InvalidInput, WrongState or TooManyRequests."""
    _limit(org)
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
            PromotionUse.objects.create(promotion=promotion, org=org, user=user)
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
