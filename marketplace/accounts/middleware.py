"""Tells which organisation a signed-in person acts for, and pages when nobody is signed in."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django_htmx.http import HttpResponseClientRefresh

from marketplace.accounts import audit
from marketplace.accounts.models import Organisation
from marketplace.accounts.selectors import organisations_of

SESSION_KEY = "organisation_id"


def _mine(request: HttpRequest) -> list[Organisation]:
    return organisations_of(request.user) if request.user.is_authenticated else []


def _choose(request: HttpRequest) -> Organisation | None:
    mine = request.organisations  # type: ignore[attr-defined]
    wanted = request.session.get(SESSION_KEY)
    return next((org for org in mine if str(org.pk) == wanted), mine[0] if mine else None)


def current_organisation(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Set `request.organisations` and `request.org`, looked up when they are first used."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.organisations = SimpleLazyObject(lambda: _mine(request))  # type: ignore[attr-defined]
        request.org = SimpleLazyObject(lambda: _choose(request))  # type: ignore[attr-defined]
        with audit.acting(audit.Actor(request)):
            return get_response(request)

    return middleware


_DOORS = ("account_login", "account_reauthenticate", "mfa_reauthenticate", "admin:login")


def whole_page_at_the_door(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Answer htmx with "load the page again" where a page is sent to sign in.

    htmx follows a redirect unseen and would put the whole sign-in page where a fragment belongs,
    as in a page that goes on asking after its person has signed out. Loaded again, the page is
    itself sent to sign in, and comes back to where it was.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code == 302 and request.htmx:  # type: ignore[attr-defined]
            target = urlsplit(response["Location"]).path
            if target in {reverse(door) for door in _DOORS}:
                return HttpResponseClientRefresh()
        return response

    return middleware
