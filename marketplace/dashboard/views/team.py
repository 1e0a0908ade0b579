"""An organisation's pages: members, invitations, settings, and which one a person acts for."""

from django.conf import settings as site
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.forms import Form
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.accounts import selectors as accounts
from marketplace.accounts import services
from marketplace.accounts.middleware import SESSION_KEY
from marketplace.accounts.models import Membership, Role
from marketplace.core.errors import MarketError, NotFound
from marketplace.dashboard.access import (
    MemberRequest,
    answers,
    ask,
    confirmed,
    may,
    member,
    show_error,
)
from marketplace.dashboard.desk_forms import RetentionForm
from marketplace.dashboard.forms import InvitationForm, OrganisationForm, SettingsForm
from marketplace.jobs.retention import keep_days_of, retention_set

_HEADS = (Role.OWNER, Role.ADMIN)
RIGHTS = (
    ("See jobs, usage, keys without their secrets, invoices and budgets", tuple(Role)),
    ("Run and cancel jobs, delete their data", (*_HEADS, Role.DEVELOPER)),
    ("Make, rotate and revoke keys", (*_HEADS, Role.DEVELOPER)),
    ("Send webhooks again, send a test event", (*_HEADS, Role.DEVELOPER)),
    ("Edit models and versions", (*_HEADS, Role.DEVELOPER)),
    ("Add money, change billing details and recharge", (*_HEADS, Role.BILLING)),
    ("Set budgets and projects", (*_HEADS, Role.BILLING)),
    ("Set prices and licences of models", (*_HEADS, Role.BILLING)),
    ("Give a key the scope billing", (*_HEADS, Role.BILLING)),
    ("Give a key the scope admin", _HEADS),
    ("Invite, remove and change members", _HEADS),
    ("Change the profile, webhook endpoints and their secret, retention", _HEADS),
    ("Read the audit log", _HEADS),
    ("Name and remove owners", (Role.OWNER,)),
)
"""What each role may do, as the pages and services decide it."""


@member()
@require_http_methods(["GET", "HEAD", "POST"])
def team(request: MemberRequest) -> HttpResponse:
    """List members, and invite one."""
    form, link, status = InvitationForm(), "", 200
    if request.method == "POST":
        form, status = InvitationForm(request.POST), 422
        if form.is_valid():
            try:
                _, token = services.invitation_create(
                    org=request.org,
                    email=form.cleaned_data["email"],
                    role=Role(form.cleaned_data["role"]),
                    invited_by=request.user,
                )
                link = site.PUBLIC_URL + reverse("invitation", args=[token])
                form, status = InvitationForm(), 201
            except MarketError as error:
                show_error(form, error)
    context = {
        "form": form,
        "link": link,
        "members": accounts.members_of(request.org),
        "invitations": accounts.invitations_open(request.org),
        "roles": Role.choices,
        "role_names": Role.labels,
        "rights": [(what, [role in roles for role in Role]) for what, roles in RIGHTS],
        "may_write": may(request),
    }
    return render(request, "team/team.html", context, status=status)


def _other(request: MemberRequest, membership_id: int) -> Membership:
    return get_object_or_404(accounts.members_of(request.org), pk=membership_id)


@member()
@require_POST
def member_role(request: MemberRequest, membership_id: int) -> HttpResponseBase:
    """Change a member's role."""
    other = _other(request, membership_id)
    try:
        services.membership_set_role(
            org=request.org,
            user=other.user,
            role=request.POST.get("role", ""),  # type: ignore[arg-type]
            changed_by=request.user,
        )
        messages.success(request, f"{other.user} now has the role {request.POST.get('role')}.")
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("team")


@member(write=list(Role))
@require_POST
def member_remove(request: MemberRequest, membership_id: int) -> HttpResponseBase:
    """End a membership: one's own, or as owner or admin another's."""
    other = _other(request, membership_id)
    own = other.user_id == request.user.pk
    if not confirmed(request):
        who = "You" if own else str(other.user)
        return ask(
            request,
            question=f"Leave {request.org}?" if own else f"Remove {other.user}?",
            words=f"{who} can no longer see or change anything of {request.org}. Only an "
            "invitation leads back. Keys made with the scope admin or billing end; others go on.",
            button="Leave" if own else "Remove",
            back=reverse("team"),
            stay="Stay" if own else "Keep",
        )
    try:
        services.membership_remove(org=request.org, user=other.user, removed_by=request.user)
        messages.success(request, f"{other.user} is no longer a member of {request.org}.")
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("dashboard" if own else "team")


@never_cache
@login_required
@answers
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: MemberRequest, token: str) -> HttpResponseBase:
    """Show an invitation, and accept it."""
    found = accounts.invitation_get(token)
    if request.method == "POST":
        services.invitation_accept(token=token, user=request.user)
        request.session[SESSION_KEY] = str(found.org_id)
        messages.success(request, f"Welcome to {found.org}.")
        return redirect("dashboard")
    is_theirs = found.email == request.user.email.lower()
    return render(request, "team/invitation.html", {"found": found, "is_theirs": is_theirs})


@login_required
@answers
@require_POST
def switch(request: MemberRequest) -> HttpResponseBase:
    """Act for another organisation of one's own."""
    wanted = request.POST.get("org", "")
    mine = accounts.organisations_of(request.user)
    chosen = next((org for org in mine if str(org.pk) == wanted), None)
    if chosen is None:
        raise NotFound("There is no such organisation.")
    request.session[SESSION_KEY] = str(chosen.pk)
    return redirect("dashboard")


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def organisation_create(request: MemberRequest) -> HttpResponseBase:
    """Found another organisation and act for it."""
    form, status = OrganisationForm(), 200
    if request.method == "POST":
        form, status = OrganisationForm(request.POST), 422
        if form.is_valid():
            try:
                org = services.organisation_create(owner=request.user, **form.cleaned_data)
                request.session[SESSION_KEY] = str(org.pk)
                messages.success(request, f"{org} is founded. You are its owner.")
                return redirect("dashboard")
            except MarketError as error:
                show_error(form, error)
    return render(request, "team/organisation_create.html", {"form": form}, status=status)


@member()
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: MemberRequest) -> HttpResponseBase:
    """Change the public profile."""
    org = request.org
    if request.method != "POST":
        return _settings_page(request)
    form = SettingsForm(request.POST)
    if form.is_valid():
        try:
            services.organisation_update(org=org, **form.cleaned_data)
            messages.success(request, "Saved.")
            return redirect("settings")
        except MarketError as error:
            show_error(form, error)
    return _settings_page(request, 422, form=form)


def _settings_page(request: MemberRequest, status: int = 200, **forms: Form) -> HttpResponse:
    org = request.org
    names = ("name", "about", "website", "country")
    context = {
        "form": SettingsForm(initial={name: getattr(org, name) for name in names}),
        "retention_form": RetentionForm(initial={"keep_days": org.keep_days}),
        "keep_days": keep_days_of(org),
        "may_write": may(request),
        **forms,
    }
    return render(request, "team/settings.html", context, status=status)


@member()
@require_POST
def retention(request: MemberRequest) -> HttpResponseBase:
    """Say how long inputs and outputs are kept."""
    form = RetentionForm(request.POST)
    if form.is_valid():
        days = form.cleaned_data["keep_days"]
        if not confirmed(request):
            return ask(
                request,
                question="Change how long data is kept?",
                words="Inputs and outputs that are older than the new period are deleted at "
                "once, and do not come back.",
                button="Change it",
                back=reverse("settings"),
                stay="Leave it as it is",
            )
        try:
            retention_set(org=request.org, days=days)
            messages.success(request, f"Kept for {keep_days_of(request.org)} days from now on.")
            return redirect("settings")
        except MarketError as error:
            show_error(form, error)
    return _settings_page(request, 422, retention_form=form)
