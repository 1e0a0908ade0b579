"""API keys: made, rotated, revoked. A secret is on the answer that made it, and never again."""

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.accounts import selectors as accounts
from marketplace.accounts.models import ApiKey, Role
from marketplace.accounts.rotation import api_key_rotate
from marketplace.accounts.services import api_key_create, api_key_revoke, scopes_refused
from marketplace.core.errors import MarketError, NotAllowed, NotFound
from marketplace.core.ids import parse_id
from marketplace.core.keyset import links, page_of
from marketplace.dashboard.access import MemberRequest, may, member, show_error
from marketplace.dashboard.desk_forms import RotateForm
from marketplace.dashboard.forms import KeyForm

_KEYS = 100
_NAMES = {"monthly_budget_nano": "budget_usd", "expires_at": "expires"}


def _offered(request: MemberRequest, form: KeyForm) -> KeyForm:
    """Offer the projects there are, and the scopes that the member's role may give."""
    form.offer_projects(accounts.projects_of(request.org))
    return form.offer_scopes(request.membership.role)


def _page(
    request: MemberRequest,
    form: KeyForm | None = None,
    *,
    secret: str | None = None,
    rotated: ApiKey | None = None,
    status: int = 200,
) -> HttpResponse:
    keys, following = page_of(
        accounts.keys_of(request.org), request.GET.get("before", ""), by="created_at", size=_KEYS
    )
    context = {
        "form": form or _offered(request, KeyForm()),
        "secret": secret,
        "rotated": rotated,
        "keys": [key for key in keys if key.is_usable],
        "ended": [key for key in keys if not key.is_usable],
        "may_write": may(request, Role.DEVELOPER),
        **links(request, following, path=reverse("keys")),
    }
    return render(request, "dashboard/keys.html", context, status=status)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: MemberRequest) -> HttpResponse:
    """List keys, and make one: its secret is on the answer to this very request, never again."""
    if request.method != "POST":
        return _page(request)
    form = _offered(request, KeyForm(request.POST))
    if form.is_valid():
        try:
            _, secret = api_key_create(org=request.org, created_by=request.user, **form.arguments())
            return _page(request, secret=secret, status=201)
        except MarketError as error:
            show_error(form, error, _NAMES)
    return _page(request, form, status=422)


def _key(request: MemberRequest, key_id: str) -> ApiKey:
    found = accounts.keys_of(request.org).filter(pk=parse_id(key_id)).first()
    if found is None:
        raise NotFound("There is no such key.")
    return found


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def key_rotate(request: MemberRequest, key_id: str) -> HttpResponseBase:
    """Ask how long the old secret is to work, then make a new one and show it once."""
    key, status = _key(request, key_id), 200
    form = RotateForm.asking(key)
    if request.method == "POST":
        form, status = RotateForm(request.POST), 422
        if form.is_valid():
            try:
                rotated, secret = api_key_rotate(
                    org=request.org,
                    key_id=key.pk,
                    grace_h=int(form.cleaned_data["grace_hours"]),
                    member=request.membership,
                    once=form.cleaned_data["once"],
                    current=form.cleaned_data["current"],
                )
                return _page(request, secret=secret, rotated=rotated)
            except NotAllowed:
                raise
            except MarketError as error:
                key.refresh_from_db()
                form = RotateForm.asking(key, form.cleaned_data["grace_hours"], bound=True)
                show_error(form, error)
    role = request.membership.role
    may_write = may(request, Role.DEVELOPER) and not scopes_refused(role, key.scopes)
    context = {"key": key, "form": form, "may_write": may_write}
    return render(request, "dashboard/key_rotate.html", context, status=status)


@member(write=[Role.DEVELOPER])
@require_POST
def key_revoke(request: MemberRequest, key_id: str) -> HttpResponseBase:
    """Revoke a key, once it was confirmed on a page of its own."""
    if request.POST.get("confirmed") != "yes":
        return render(request, "dashboard/key_revoke.html", {"key": _key(request, key_id)})
    key = api_key_revoke(org=request.org, key_id=key_id)
    messages.success(request, f"The key {key.prefix}… is revoked and refused from now on.")
    return redirect("keys")
