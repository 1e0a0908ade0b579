"""Tells which organisation a signed-in person is acting for, and the audit log who acts."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

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
