"""Webhooks: the endpoints, what was sent and answered, replays, the signing secret."""

import json
import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from marketplace.accounts import endpoints, rotation
from marketplace.accounts.models import Role
from marketplace.core.clock import now
from marketplace.core.errors import MarketError
from marketplace.core.keyset import links
from marketplace.core.outbox import Delivery
from marketplace.core.webhooks import WebhookRow
from marketplace.dashboard.access import MemberRequest, may, member
from marketplace.jobs import deliveries
from marketplace.jobs.models import WebhookDelivery

_KINDS = (("job", "Jobs"), ("account", "Account"))


def sees_all(request: MemberRequest, row: Any) -> bool:
    """Tell whether a member may see an address, which is often a secret, and what was answered.

    An endpoint's: who may set it; the one that a job named: who may submit jobs.
    """
    own = isinstance(row, WebhookDelivery) and row.endpoint_id is None
    return may(request, Role.DEVELOPER) if own else may(request)


def _page(request: MemberRequest, status: int = 200, **more: Any) -> HttpResponse:
    kind, state = request.GET.get("kind", ""), request.GET.get("state", "")
    kind = kind if kind in deliveries.KINDS else ""
    state = state if state in Delivery.values else ""
    before = request.GET.get("before", "")
    rows, following = deliveries.deliveries_page(
        org=request.org, kind=kind, state=state, before=before
    )
    context = {
        "rows": [(told, sees_all(request, told.row)) for told in rows],
        **links(request, following, path=reverse("webhooks")),
        "kind": kind,
        "state": state,
        "kinds": _KINDS,
        "states": Delivery.choices,
        "endpoints": endpoints.endpoints_of(request.org),
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


def _headers(row: WebhookRow) -> list[tuple[str, str]]:
    """Return the headers that show a delivery to be ours, without what they prove it by."""

    def shown(name: str, value: str) -> str:
        if name.lower().endswith("signature"):
            return "v1,••••••••" if value.startswith("v1,") else "••••••••"
        unsent = row.last_sent_at is None and name.lower().endswith("timestamp")
        return "—" if unsent else value

    signed = row.signed(b"", row.last_sent_at or now())
    return [(name, shown(name, value)) for name, value in signed.items()]


@member()
@require_safe
def delivery(request: MemberRequest, kind: str, delivery_id: str) -> HttpResponse:
    """Show one delivery: what was sent, without its signature, and what was answered."""
    row = deliveries.delivery_get(org=request.org, kind=kind, delivery_id=delivery_id)
    headers = [("Content-Type", "application/json"), *_headers(row)]
    context = {
        "kind": kind,
        "row": row,
        "held_back": row.held_back,
        "headers": headers,
        "body": json.dumps(row.payload, indent=2),
        "sees_all": sees_all(request, row),
        "may_write": may(request, Role.DEVELOPER),
    }
    return render(request, "dashboard/delivery.html", context)


@member(write=[Role.DEVELOPER])
@require_POST
def replay(request: MemberRequest, kind: str, delivery_id: str) -> HttpResponseBase:
    """Send an event again."""
    try:
        deliveries.delivery_replay(org=request.org, delivery_id=delivery_id)
        messages.success(request, "It is sent again in a moment, with the same webhook-id.")
    except MarketError as error:
        if error.status == 404:
            raise
        messages.error(request, error.message)
    return redirect("delivery", kind, delivery_id)


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
