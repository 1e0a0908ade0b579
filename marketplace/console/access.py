"""Who may open the console's pages: staff with a second factor, and each page by its permission."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from allauth.account.authentication import get_authentication_records
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model as Row
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode

from marketplace.accounts import audit
from marketplace.accounts.models import Organisation, User
from marketplace.console.models import StaffAct
from marketplace.core.errors import MarketError, NotFound

NOBODY = UUID(int=0)
View = Callable[..., HttpResponse]


def has_second_factor(request: HttpRequest) -> bool:
    """Tell whether this very session was opened, or confirmed, with a second factor."""
    if not settings.CONSOLE_SECOND_FACTOR:
        return True
    records = get_authentication_records(request, request.user)
    shown = any(record.get("method") == "mfa" for record in records)
    return shown and bool(is_mfa_enabled(request.user))


def ask_for_second_factor(request: HttpRequest) -> HttpResponseRedirect:
    """Send staff to set their second factor up, or to show it."""
    wanted = request.GET.get("next", "")
    if not url_has_allowed_host_and_scheme(wanted, {request.get_host()}):
        wanted = reverse("admin:index")
    if is_mfa_enabled(request.user):
        return redirect(f"{reverse('mfa_reauthenticate')}?{urlencode({'next': wanted})}")
    messages.warning(request, "The console needs a second factor: set one up, then sign in again.")
    return redirect("mfa_index")


def needs(*permissions: str) -> Callable[[View], View]:
    """Let in who has every permission; turn expected errors into pages: 404, 403, 409 …"""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.has_perms(permissions):
                raise PermissionDenied
            try:
                return view(request, *args, **kwargs)
            except NotFound as error:
                raise Http404(error.message) from error
            except MarketError as error:
                return render(request, "refused.html", {"error": error}, status=error.status)

        return wrapper

    return decorate


def may(request: HttpRequest, permission: str) -> None:
    """Raise PermissionDenied unless the member of staff has the permission."""
    if not request.user.has_perm(permission):
        raise PermissionDenied


def acting_staff(request: HttpRequest) -> User:
    """Return who acts, as a row that others can refer to."""
    found = User.objects.filter(pk=request.user.pk or NOBODY).first()
    if found is None:
        raise PermissionDenied
    return found


def tell(org: Organisation, verb: str, target: object) -> None:
    """Write an act of staff into an organisation's own audit log, as done by the platform."""
    with audit.acting(audit.Actor()):
        audit.record(org=org, action=f"staff.{verb}"[:40], target=target)


def record(
    request: HttpRequest, verb: str, row: Row | str, *, org: Organisation | None = None,
    note: str = "", by: User | None = None,
) -> StaffAct:  # fmt: skip
    """Write down what was done; call it in the transaction that does it.

    With `org` that organisation reads of it in its own audit log, without the name and the note.
    """
    if org is not None:
        tell(org, verb, row)
    return StaffAct.objects.create(
        by=by or acting_staff(request),
        verb=verb[:40],
        subject=str(row)[:200],
        subject_id=str(row.pk)[:64] if isinstance(row, Row) else "",
        org=org,
        note=note[:4000],
    )
