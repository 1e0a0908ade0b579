"""Endpoints of webhooks: made, changed, switched, tested, replayed, removed."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.accounts import endpoints
from marketplace.accounts.models import Role
from marketplace.accounts.webhook_models import MISSED_FOR, WebhookEndpoint
from marketplace.core.errors import MarketError
from marketplace.core.keyset import links
from marketplace.core.outbox import Delivery
from marketplace.dashboard.access import MemberRequest, ask, confirmed, may, member, show_error
from marketplace.dashboard.desk_forms import EndpointForm
from marketplace.dashboard.views.webhooks import sees_all
from marketplace.jobs import deliveries


@member()
@require_http_methods(["GET", "HEAD", "POST"])
def endpoint_create(request: MemberRequest) -> HttpResponseBase:
    """Add an endpoint."""
    form = EndpointForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            row = endpoints.endpoint_create(org=request.org, user=request.user, **form.cleaned_data)
            messages.success(request, "The endpoint is on. Send it a test event.")
            return redirect("endpoint", row.pk)
        except MarketError as error:
            show_error(form, error)
    context = {"form": form, "may_manage": may(request)}
    return render(
        request, "dashboard/endpoint_new.html", context, status=422 if form.errors else 200
    )


def _page(
    request: MemberRequest, row: WebhookEndpoint, form: EndpointForm, status: int = 200
) -> HttpResponse:
    state = request.GET.get("state", "")
    state = state if state in Delivery.values else ""
    rows, following = deliveries.deliveries_page(
        org=request.org, endpoint=row, state=state, before=request.GET.get("before", "")
    )
    context: dict[str, Any] = {
        "endpoint": row,
        "form": form,
        "rows": [(told, sees_all(request, told.row)) for told in rows],
        **links(request, following, path=reverse("endpoint", args=[row.pk])),
        "state": state,
        "states": Delivery.choices,
        "may_manage": may(request),
        "may_write": may(request, Role.DEVELOPER),
        "has_failed": deliveries.has_failed(row),
        "missed_days": MISSED_FOR.days,
        "most": deliveries.MOST_AT_ONCE,
    }
    return render(request, "dashboard/endpoint.html", context, status=status)


@member()
@require_http_methods(["GET", "HEAD", "POST"])
def endpoint(request: MemberRequest, endpoint_id: str) -> HttpResponseBase:
    """Show an endpoint with what was sent to it, and change it."""
    row = endpoints.endpoint_get(org=request.org, endpoint_id=endpoint_id)
    if request.method != "POST":
        initial = {"url": row.url, "events": row.events, "note": row.note}
        return _page(request, row, EndpointForm(initial=initial))
    form = EndpointForm(request.POST)
    if form.is_valid():
        try:
            endpoints.endpoint_update(org=request.org, endpoint_id=row.pk, **form.cleaned_data)
            messages.success(request, "Saved.")
            return redirect("endpoint", row.pk)
        except MarketError as error:
            show_error(form, error)
    return _page(request, row, form, 422)


@member()
@require_POST
def endpoint_switch(request: MemberRequest, endpoint_id: str) -> HttpResponseBase:
    """Switch an endpoint on or off."""
    on = request.POST.get("on") == "yes"
    endpoints.endpoint_update(org=request.org, endpoint_id=endpoint_id, on=on)
    messages.success(request, "The endpoint is on." if on else "The endpoint is off.")
    return redirect("endpoint", endpoint_id)


@member(write=[Role.DEVELOPER])
@require_POST
def endpoint_test(request: MemberRequest, endpoint_id: str) -> HttpResponseBase:
    """Send a test event."""
    try:
        deliveries.endpoint_test(org=request.org, endpoint_id=endpoint_id)
        messages.success(request, "A test event is on its way. It appears in the list below.")
    except MarketError as error:
        if error.status == 404:
            raise
        messages.error(request, error.message)
    return redirect("endpoint", endpoint_id)


@member(write=[Role.DEVELOPER])
@require_POST
def endpoint_replay(request: MemberRequest, endpoint_id: str) -> HttpResponseBase:
    """Send again what failed."""
    try:
        count = deliveries.failed_replay(org=request.org, endpoint_id=endpoint_id)
        events = "1 event is" if count == 1 else f"{count} events are"
        messages.success(request, f"{events} sent again, each with the id it had.")
    except MarketError as error:
        if error.status == 404:
            raise
        messages.error(request, error.message)
    return redirect("endpoint", endpoint_id)


@member()
@require_POST
def endpoint_remove(request: MemberRequest, endpoint_id: str) -> HttpResponseBase:
    """Remove an endpoint."""
    row = endpoints.endpoint_get(org=request.org, endpoint_id=endpoint_id)
    if not confirmed(request):
        return ask(
            request,
            question=f"Remove {row.note or row.url}?",
            words="Your server is told nothing there any more. What was sent stays in the list.",
            button="Remove",
            back=reverse("endpoint", args=[row.pk]),
            stay="Keep it",
        )
    endpoints.endpoint_remove(org=request.org, endpoint_id=endpoint_id)
    messages.success(request, "The endpoint is removed.")
    return redirect("webhooks")
