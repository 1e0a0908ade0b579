"""Who may open a page: members of the current organisation, and for changes, members by role."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from marketplace.accounts.models import Membership, Organisation, Role, User
from marketplace.accounts.services import membership_require
from marketplace.core import limits
from marketplace.core.errors import MarketError, NotFound

View = Callable[..., HttpResponseBase]
_SAFE = ("GET", "HEAD", "OPTIONS")


class MemberRequest(HttpRequest):
    """A request of a signed-in member: what `member` has made sure of."""

    user: User
    org: Organisation
    membership: Membership


def answers(view: View) -> View:
    """Turn expected errors that a view lets through into pages: 404, 403, 409 …"""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except NotFound as error:
            raise Http404(error.message) from error
        except MarketError as error:
            return render(request, "refused.html", {"error": error}, status=error.status)

    return wrapper


def member(*, write: Sequence[Role] = ()) -> Callable[[View], View]:
    """Let members in; a request that changes something needs a role of `write` (or owner, admin).

    A visitor is sent to sign in, somebody without an organisation to found one, or staff
    to the console. Sets `request.membership`. Pages of members are never cached.
    """

    def decorate(view: View) -> View:
        @never_cache
        @login_required
        @wraps(view)
        def wrapper(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.org:
                is_staff = request.user.is_staff
                return redirect("admin:index" if is_staff else "organisation-create")
            needed = list(Role) if request.method in _SAFE else write
            request.membership = membership_require(
                user=request.user, org=request.org, roles=needed
            )
            return view(request, *args, **kwargs)

        return answers(wrapper)

    return decorate


def confirmed(request: HttpRequest) -> bool:
    """Tell whether the form was sent from the page that asks first: it works without scripts."""
    return request.POST.get("confirmed") == "yes"


def ask(
    request: HttpRequest, *, question: str, words: str, button: str, back: str, stay: str
) -> HttpResponse:
    """Show the page that asks before what cannot be undone, and sends the same form again."""
    own = ("csrfmiddlewaretoken", "confirmed")
    context = {
        "question": question,
        "words": words,
        "button": button,
        "back": back,
        "stay": stay,
        "address": request.path,
        "kept": [(name, value) for name, value in request.POST.items() if name not in own],
    }
    return render(request, "dashboard/confirm.html", context)


def heavy(view: View) -> View:
    """Count a view that costs much by organisation; put it under `member`."""

    @wraps(view)
    def wrapper(request: MemberRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        limits.heavy(request.org.pk)
        return view(request, *args, **kwargs)

    return wrapper


def may(request: MemberRequest, *roles: Role) -> bool:
    """Tell whether the member's role allows what `roles` may do, to show or hide its form."""
    return request.membership.role in (Role.OWNER, Role.ADMIN, *roles)


def show_error(form: Form, error: MarketError, names: dict[str, str] | None = None) -> None:
    """Show an expected error at the fields it names; `names` maps its fields to the form's."""
    placed = False
    for name, problems in error.fields.items():
        field = (names or {}).get(name, name)
        if field in form.fields:
            for problem in problems:
                form.add_error(field, problem)
            placed = True
    if not placed:
        form.add_error(None, error.message)
