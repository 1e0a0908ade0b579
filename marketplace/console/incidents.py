"""Incidents: what went wrong, and how it was settled, in a note."""

from django import forms
from django.contrib import messages
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from billing.models import Incident
from marketplace.console.access import may, needs, record
from marketplace.console.models import StaffAct
from marketplace.core.clock import now
from marketplace.core.errors import NotFound
from marketplace.core.ids import parse_id
from marketplace.core.keyset import links

PAGE = 50


class ResolveForm(forms.Form):
    """How it was settled."""

    note = forms.CharField(
        max_length=4000, widget=forms.Textarea(attrs={"rows": 3}), label="How it was settled",
        help_text="The next check opens it again if it was not.",
    )  # fmt: skip


@require_safe
@needs("billing.view_incident")
def incidents(request: HttpRequest) -> HttpResponse:
    """List open incidents, or those that were resolved, newest first."""
    is_open = request.GET.get("state", "open") != "resolved"
    rows = Incident.objects.filter(resolved_at__isnull=is_open)
    if before := request.GET.get("before"):
        last = Incident.objects.filter(pk=parse_id(before)).first()
        if last is not None:
            rows = rows.filter(
                Q(opened_at__lt=last.opened_at) | Q(opened_at=last.opened_at, pk__lt=last.pk)
            )
    found = list(rows.order_by("-opened_at", "-pk")[: PAGE + 1])
    context = {
        "title": "Incidents",
        "incidents": found[:PAGE],
        "is_open": is_open,
        **links(request, found[PAGE - 1].pk if len(found) > PAGE else ""),
    }
    return render(request, "console/incidents.html", context)


@needs("billing.view_incident")
def incident(request: HttpRequest, incident_id: str) -> HttpResponse:
    """Show one incident; POST resolves it with a note."""
    found = Incident.objects.filter(pk=parse_id(incident_id)).first()
    if found is None:
        raise NotFound("There is no such incident.")
    form = ResolveForm(request.POST or None)
    if request.method == "POST":
        may(request, "billing.change_incident")
        if form.is_valid():
            with transaction.atomic():
                rows = Incident.objects.filter(pk=found.pk, resolved_at__isnull=True)
                if rows.update(resolved_at=now()):
                    note = form.cleaned_data["note"]
                    record(request, "incident.resolved", found, note=note)
            messages.success(request, f"{found.rule} is resolved.")
            return redirect("admin:incidents")
    context = {
        "title": found.rule,
        "incident": found,
        "form": form,
        "acts": StaffAct.objects.filter(subject_id=str(found.pk)).select_related("by"),
        "may_resolve": request.user.has_perm("billing.change_incident"),
    }
    return render(request, "console/incident.html", context, status=422 if form.errors else 200)
