"""Feature flags, the audit of what staff did, and the way to Django's own tables."""

import waffle
from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from marketplace.console.access import needs, record
from marketplace.console.models import StaffAct
from marketplace.core import flags
from marketplace.core.errors import InvalidInput, NotFound
from marketplace.core.ids import parse_number
from marketplace.core.keyset import links
from marketplace.core.text import printable

PAGE = 100
STATES = {"on": "on for everybody", "off": "off", "staff": "on for staff only"}


def state_of(known: flags.Known) -> str:
    """Return how a switch stands in the database: on, off or staff."""
    if not known.for_some:
        switch = waffle.get_waffle_switch_model().objects.filter(name=known.name).first()
        return "on" if (known.default if switch is None else switch.active) else "off"
    flag = waffle.get_waffle_flag_model().objects.filter(name=known.name).first()
    if flag is None:
        return "on" if known.default else "off"
    if flag.everyone is None:
        return "staff" if flag.staff else "off"
    return "on" if flag.everyone else "off"


def _set(known: flags.Known, state: str) -> None:
    if not known.for_some:
        table = waffle.get_waffle_switch_model()
        table.objects.update_or_create(name=known.name, defaults={"active": state == "on"})
        return
    values = {
        "everyone": {"on": True, "off": False}.get(state),
        "staff": state == "staff",
        "superusers": state == "staff",
        "note": known.what,
    }
    waffle.get_waffle_flag_model().objects.update_or_create(name=known.name, defaults=values)


@require_safe
@needs("waffle.change_switch")
def flags_page(request: HttpRequest) -> HttpResponse:
    """Show every switch, what it does and how it stands."""
    rows = [(known, state_of(known)) for known in flags.KNOWN.values()]
    return render(request, "console/flags.html", {"title": "Feature flags", "flags": rows})


@require_POST
@needs("waffle.change_switch")
def flag_set(request: HttpRequest, name: str) -> HttpResponse:
    """Switch one."""
    known, state = flags.KNOWN.get(name), request.POST.get("state", "")
    if known is None:
        raise NotFound("There is no such flag.")
    if state not in STATES or (state == "staff" and not known.for_some):
        raise InvalidInput("It cannot stand so.", fields={"state": ["Choose on or off."]})
    with transaction.atomic():
        _set(known, state)
        record(request, "flag.switched", known.name, note=STATES[state])
    messages.success(request, f"{known.what}: {STATES[state]}, within seconds.")
    return redirect("admin:flags")


@require_safe
@needs("console.view_staffact")
def audit(request: HttpRequest) -> HttpResponse:
    """List what staff did, newest first, a page at a time."""
    rows = StaffAct.objects.select_related("by")
    verb = printable(request.GET.get("verb", ""))
    who = printable(request.GET.get("by", "")).strip()
    if verb:
        rows = rows.filter(verb=verb)
    if who:
        rows = rows.filter(by__email=who.lower())
    if (before := parse_number(request.GET.get("before", ""))) is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: PAGE + 1])
    context = {
        "title": "Audit",
        "acts": found[:PAGE],
        "verb": verb,
        "who": who,
        **links(request, found[PAGE - 1].pk if len(found) > PAGE else ""),
    }
    return render(request, "console/audit.html", context)


@require_safe
def tables(request: HttpRequest) -> HttpResponse:
    """List Django's own tables, each with what the member of staff may do there."""
    context = {"title": "All tables", "app_list": admin.site.get_app_list(request)}
    return render(request, "console/tables.html", context)
