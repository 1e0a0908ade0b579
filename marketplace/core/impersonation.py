"""Keeps staff who look at the market as somebody else from changing anything, or seeing secrets."""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string
from hijack import signals

from marketplace.core.errors import NotAllowed

HISTORY = "hijack_history"
"""django-hijack's session key: who acts, under whose name the session now runs."""
ENDED_WHY = "acting_ended_why"
"""In `request.META` while `hijack_ended` is sent: why we ended it, if staff did not stop."""
LIMIT_S = 3600
_HASH, _SINCE = "acting_hash", "acting_since"
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


def bind(request: HttpRequest, hijacker: Any) -> None:
    """Tie a session that begins to act to the staff member's own sign-in, and to the clock."""
    request.session[_HASH] = hijacker.get_session_auth_hash()
    request.session[_SINCE] = time.time()


def _over(request: HttpRequest, hijacker: Any) -> str:
    """Say why a session may act no longer, or nothing."""
    session = request.session
    if hijacker is None or not constant_time_compare(
        session.get(_HASH, ""), hijacker.get_session_auth_hash()
    ):
        return "the staff member's own sign-in has ended"
    if not import_string(settings.HIJACK_PERMISSION_CHECK)(
        hijacker=hijacker, hijacked=request.user
    ):
        return "the right to it was lost"
    if not 0 <= time.time() - session.get(_SINCE, 0) < LIMIT_S:
        return f"it lasts {LIMIT_S // 60} minutes at most"
    return ""


def _end(request: HttpRequest, hijacker: Any, why: str) -> HttpResponse:
    """Sign the session out altogether: the staff member's own may not be valid any more."""
    hijacked = request.user
    logout(request)
    if hijacker is not None and hijacked.is_authenticated:
        request.META[ENDED_WHY] = why
        signals.hijack_ended.send(
            sender=None, request=request, hijacker=hijacker, hijacked=hijacked
        )
    return redirect("account_login")


def read_only(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Refuse every change, and every secret, to staff who act as a user. They may always stop.

    It ends by itself after an hour, and when the staff member loses the right to it or is
    signed out everywhere, as by a change of password.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        if not is_acting(request):
            return get_response(request)
        who = request.session[HISTORY][-1]
        hijacker = get_user_model()._default_manager.filter(pk=who).first()
        if why := _over(request, hijacker):
            return _end(request, hijacker, why)
        ways_out = (reverse("hijack:release"), reverse("account_logout"))
        shown = request.method in _SAFE and not request.path.startswith(_SECRET)
        if shown or request.path in ways_out:
            return get_response(request)
        why = "You are looking as somebody else: nothing can be changed, and secrets stay hidden."
        return render(request, "refused.html", {"error": NotAllowed(why)}, status=403)

    return middleware
