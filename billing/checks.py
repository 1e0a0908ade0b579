"""Deployment checks: what must not be left at its development value."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from billing.stripe.gateway import refuse_stand_in_in_production


@register(Tags.security)
def stripe_is_real_in_production(**_: Any) -> list[CheckMessage]:
    """Refuse to start on the Stripe stand-in when DEBUG is off."""
    try:
        refuse_stand_in_in_production(settings, local=settings.LOCAL_STACK)
    except ImproperlyConfigured as error:
        return [Error(str(error), id="mercato.E001")]
    return []
