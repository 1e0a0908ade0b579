"""Keeps staff who look at the market as somebody else from changing anything, or seeing secrets."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from marketplace.core.errors import NotAllowed

HISTORY = "hijack_history"
"""django-hijack's session key: who acts, under whose name the session now runs."""
_SAFE = ("GET", "HEAD", "OPTIONS")
_SECRET = (
    "/accounts/", "/console/", "/dashboard/settings/", "/dashboard/invitations/",
    "/dashboard/webhooks/", "/dashboard/billing/profile/",
)  # fmt: skip
"""Pages that show what is its owner's alone: addresses, second factors, signing secrets.

The address of a webhook is often a secret itself, and its receiver's answer may hold one.
"""


def is_acting(request: HttpRequest) -> bool:
    """Tell whether this session is of staff who act as its user."""
    # Asked only where there is a session: to look at one makes answers vary by cookie.
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return False
    return bool(request.session.get(HISTORY))


def read_only(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Refuse every change, and every secret, to staff who act as a user. They may always stop."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if not is_acting(request):
            return get_response(request)
        ways_out = (reverse("hijack:release"), reverse("account_logout"))
        shown = request.method in _SAFE and not request.path.startswith(_SECRET)
        if shown or request.path in ways_out:
            return get_response(request)
        why = "You are looking as somebody else: nothing can be changed, and secrets stay hidden."
        return render(request, "refused.html", {"error": NotAllowed(why)}, status=403)

    return middleware
