"""What every page may show: the site's name, the organisation, whether Stripe is a stand-in."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the context of every template."""
    return {
        "site_name": settings.SITE_NAME,
        "public_url": settings.PUBLIC_URL,
        "org": getattr(request, "org", None),
        "organisations": getattr(request, "organisations", ()),
        "stripe_stand_in": bool(settings.STRIPE_API_BASE),
        "stripe_configured": bool(settings.STRIPE_API_KEY),
        "on_own_machine": settings.LOCAL_STACK or settings.DEBUG,
        "welcome_credit": settings.WELCOME_CREDIT_USD,
        "mail_is_printed": settings.EMAIL_BACKEND.endswith("console.EmailBackend"),
    }
