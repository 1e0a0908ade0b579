"""Webhooks: where they go, what was sent and answered, replays, a test, the signing secret."""

import json
import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from marketplace.accounts import events, rotation
from marketplace.accounts.models import Role
from marketplace.core.errors import MarketError
from marketplace.core.keyset import links
from marketplace.core.outbox import Delivery
from marketplace.dashboard.access import MemberRequest, may, member, show_error
from marketplace.dashboard.budget_forms import WebhookForm
from marketplace.jobs import deliveries

_KINDS = (("job", "Jobs"), ("account", "Account"))


def _sees_all(request: MemberRequest, kind: str) -> bool:
    """Tell whether a member may see addresses, which are often secrets, and what was answered.

    Those of jobs: who may submit jobs; the account's: who may set it.
    """
    return may(request, Role.DEVELOPER) if kind == "job" else may(request)


def _page(request: MemberRequest, status: int = 200, **more: Any) -> HttpResponse:
    kind, state = request.GET.get("kind", ""), request.GET.get("state", "")
    kind = kind if kind in deliveries.KINDS else ""
    state = state if state in Delivery.values else ""
    before = request.GET.get("before", "")
    rows, following = deliveries.deliveries_page(
        org=request.org, kind=kind, state=state, before=before
    )
    context = {
        "rows": [(told, _sees_all(request, told.kind)) for told in rows],
        **links(request, following, path=reverse("webhooks")),
        "kind": kind,
        "state": state,
        "kinds": _KINDS,
        "states": Delivery.choices,
        "webhook_form": WebhookForm(initial={"webhook_url": request.org.webhook_url}),
        "may_manage": may(request),
        "may_write": may(request, Role.DEVELOPER),
        "shown": request.org.webhook_secret_shown_at is not None,
        "grace_h": settings.WEBHOOK_SECRET_GRACE_H,
        "rotation_mark": rotation.rotation_mark(request.org),
        "once": uuid.uuid4(),
        **more,
    }
    return render(request, "dashboard/webhooks.html", context, status=status)


@member()
@require_safe
def webhooks(request: MemberRequest) -> HttpResponse:
    """List what was sent, newest first."""
    return _page(request)


@member()
@require_safe
def delivery(request: MemberRequest, kind: str, delivery_id: str) -> HttpResponse:
    """Show one delivery: what was sent, without its signature, and what was answered."""
    row = deliveries.delivery_get(org=request.org, kind=kind, delivery_id=delivery_id)
    headers = [
        ("Content-Type", "application/json"),
        ("webhook-id", row.pk),
        ("webhook-timestamp", int(row.last_sent_at.timestamp()) if row.last_sent_at else "—"),
        ("webhook-signature", "v1,••••••••"),
    ]
    context = {
        "kind": kind,
        "row": row,
        "headers": headers,
        "body": json.dumps(row.payload, indent=2),
        "sees_all": _sees_all(request, kind),
        "may_write": may(request, Role.DEVELOPER),
    }
    return render(request, "dashboard/delivery.html", context)


@member(write=[Role.DEVELOPER])
@require_POST
def replay(request: MemberRequest, kind: str, delivery_id: str) -> HttpResponseBase:
    """Send an event again."""
    try:
        deliveries.delivery_replay(org=request.org, kind=kind, delivery_id=delivery_id)
        messages.success(request, "It is sent again in a moment, with the same webhook-id.")
    except MarketError as error:
        if error.status == 404:
            raise
        messages.error(request, error.message)
    return redirect("delivery", kind, delivery_id)


@member(write=[Role.DEVELOPER])
@require_POST
def test_event(request: MemberRequest) -> HttpResponseBase:
    """Send a test event to the account's webhook."""
    try:
        deliveries.replays_limit(request.org)
        events.event_test(org=request.org)
        messages.success(request, "A test event is on its way. It appears in the list below.")
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("webhooks")


@member()
@require_POST
def address(request: MemberRequest) -> HttpResponseBase:
    """Say where events of the account go."""
    form = WebhookForm(request.POST)
    if form.is_valid():
        try:
            events.webhook_url_set(org=request.org, url=form.cleaned_data["webhook_url"])
            messages.success(request, "Saved.")
            return redirect("webhooks")
        except MarketError as error:
            show_error(form, error)
    return _page(request, 422, webhook_form=form)


@member()
@require_POST
def secret_show(request: MemberRequest) -> HttpResponseBase:
    """Show the signing secret, once."""
    try:
        secret = rotation.webhook_secret_show(org=request.org)
    except MarketError as error:
        messages.error(request, error.message)
        return redirect("webhooks")
    return _page(request, secret=secret, shown=True)


@member()
@require_POST
def secret_rotate(request: MemberRequest) -> HttpResponseBase:
    """Make a new signing secret and show it, once."""
    try:
        secret, until = rotation.webhook_secret_rotate(
            org=request.org,
            once=request.POST.get("once", "")[:36],
            current=request.POST.get("current", ""),
        )
    except MarketError as error:
        messages.error(request, error.message)
        return redirect("webhooks")
    request.org.refresh_from_db()
    return _page(request, secret=secret, secret_before_until=until, shown=True)
