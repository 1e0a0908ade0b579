"""Organisations and people: who they are, what they hold, and what staff may do about them."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from billing.models import Grant, Invoice, Payout, TopUp
from billing.selectors import balance_of, shard_count_of
from marketplace.accounts.models import ApiKey, Membership, Organisation, User
from marketplace.accounts.selectors import organisation_get
from marketplace.accounts.services import organisation_restore, organisation_suspend
from marketplace.catalog.models import Model
from marketplace.console.access import needs, record
from marketplace.console.acting import may_act_as
from marketplace.console.credit import CreditForm, not_for
from marketplace.console.mails import tell_vendor
from marketplace.console.models import StaffAct
from marketplace.core.errors import MarketError, NotFound
from marketplace.core.ids import parse_id
from marketplace.jobs.models import Job

PAGE = 50
_VIEW = "accounts.view_organisation"
_CHANGE = "accounts.change_organisation"


class MoneyForm(CreditForm):
    """Credit, limit and shards, without what the organisation says of itself."""

    class Meta(CreditForm.Meta):
        """No field of the row."""

        fields = ()  # type: ignore[assignment]


class StopForm(forms.Form):
    """Why an organisation is suspended or restored: its owners read it."""

    note = forms.CharField(
        max_length=4000, widget=forms.Textarea(attrs={"rows": 3}), label="Why",
        help_text="Its owners and admins get it by mail.",
    )  # fmt: skip


@require_safe
@needs(_VIEW)
def organisations(request: HttpRequest) -> HttpResponse:
    """List organisations, newest first, a page at a time."""
    rows = Organisation.objects.order_by("-pk")
    text = request.GET.get("name", "").strip().replace("\x00", "")
    if text:
        rows = rows.filter(Q(slug__icontains=text) | Q(name__icontains=text))
    if request.GET.get("state") == "suspended":
        rows = rows.filter(suspended_at__isnull=False)
    if before := request.GET.get("before"):
        rows = rows.filter(pk__lt=parse_id(before))
    found = list(rows[: PAGE + 1])
    context = {
        "title": "Organisations",
        "organisations_found": found[:PAGE],
        "name": text,
        "state": request.GET.get("state", ""),
        "next": found[PAGE - 1].pk if len(found) > PAGE else "",
    }
    return render(request, "console/organisations.html", context)


def _page(request: HttpRequest, org: Organisation, status: int = 200, **more: Any) -> HttpResponse:
    newest = {
        "jobs": Job.objects.for_org(org).select_related("version__model__org")[:8],
        "invoices": Invoice.objects.for_org(org)[:6],
        "payouts": Payout.objects.for_org(org).select_related("statement").order_by("-pk")[:6],
        "top_ups": TopUp.objects.for_org(org)[:6],
        "grants": Grant.objects.for_org(org).filter(remaining_nano__gt=0)[:10],
    }
    context = {
        "title": org.name,
        "found": org,
        "balance": balance_of(org.pk),
        "shards": shard_count_of(org.pk),
        "members": Membership.objects.for_org(org).select_related("user")[:50],
        "keys": ApiKey.objects.for_org(org)[:20],
        "models": Model.objects.for_org(org).select_related("org")[:20],
        "acts": StaffAct.objects.filter(org=org).select_related("by")[:10],
        "may_change": request.user.has_perm(_CHANGE),
        "stop": StopForm(),
        "money": MoneyForm(instance=org),
        **newest,
        **more,
    }
    hidden = not_for(request.user)
    for name in hidden:
        context["money"].fields.pop(name, None)
    context["may_book"] = bool({"grant_usd", "shards"} - set(hidden))
    return render(request, "console/organisation.html", context, status=status)


@require_safe
@needs(_VIEW)
def organisation(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one organisation."""
    return _page(request, organisation_get(slug))


@require_POST
@needs(_CHANGE)
def stop(request: HttpRequest, slug: str) -> HttpResponse:
    """Suspend an organisation, or with `restore` let it go on; its owners are told."""
    org = organisation_get(slug)
    form = StopForm(request.POST)
    if not form.is_valid():
        return _page(request, org, 422, stop=form)
    note, restore = form.cleaned_data["note"], bool(request.POST.get("restore"))
    with transaction.atomic():
        done = organisation_restore(org=org) if restore else organisation_suspend(org=org)
        if done:
            verb = "restored" if restore else "suspended"
            record(request, f"organisation.{verb}", org, org=org, note=note)
            said = "can call and sell again." if restore else "neither calls nor sells from now on."
            tell_vendor(org, f"{org.name} was {verb}", [f"{org.name} {said}", note])
    messages.success(request, f"{org.name} {'goes on' if restore else 'is suspended'}.")
    return redirect("admin:organisation", org.slug)


@require_POST
@needs(_VIEW)
def money(request: HttpRequest, slug: str) -> HttpResponse:
    """Grant credit, set the credit limit, spread the wallet: each needs its own right."""
    org = organisation_get(slug)
    form = MoneyForm(request.POST, instance=org)
    if not form.is_valid():
        return _page(request, org, 422, money=form)
    try:
        told = form.book(request, org)
    except MarketError as error:
        form.add_error(None, error.message)
        return _page(request, org, error.status, money=form)
    for line in told or ["Nothing was asked for."]:
        messages.success(request, line)
    return redirect("admin:organisation", org.slug)


@require_safe
@needs("accounts.view_user")
def person(request: HttpRequest, user_id: str) -> HttpResponse:
    """Show one person: where they are members, and the way to look as they do."""
    found = User.objects.filter(pk=parse_id(user_id)).first()
    if found is None:
        raise NotFound("There is no such person.")
    context = {
        "title": found.email,
        "person": found,
        "memberships": Membership.objects.filter(user=found).select_related("org"),
        "keys": ApiKey.objects.filter(created_by=found).select_related("org")[:20],
        "acts": StaffAct.objects.filter(subject_id=str(found.pk)).select_related("by")[:10],
        "may_act_as": may_act_as(hijacker=request.user, hijacked=found),
    }
    return render(request, "console/person.html", context)
