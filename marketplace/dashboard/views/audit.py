"""The audit log of an organisation: who changed what, and when."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.http import HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_safe

from marketplace.accounts import audit
from marketplace.accounts.models import AuditEvent, Organisation
from marketplace.core.errors import NotAllowed, NotFound
from marketplace.core.ids import parse_number
from marketplace.core.keyset import links
from marketplace.core.money import format_usd
from marketplace.core.text import printable
from marketplace.dashboard.access import MemberRequest, heavy, may, member
from marketplace.dashboard.csv_pages import stream_csv
from marketplace.dashboard.periods import day_of

_PER_PAGE = 50
_CSV_PAGE = 1000
_FIELDS = ("actor", "action", "from", "to")


def _wanted(asked: QueryDict) -> dict[str, Any]:
    first, last = day_of(asked.get("from", "")), day_of(asked.get("to", ""))
    return {
        "actor": printable(asked.get("actor", "")[:200]),
        "action": printable(asked.get("action", "")[:40]),
        "since": datetime.combine(first, time.min, UTC) if first else None,
        "until": datetime.combine(last + timedelta(days=1), time.min, UTC) if last else None,
    }


def _require(request: MemberRequest) -> None:
    if not may(request):
        raise NotAllowed("The audit log is for owners and admins.")


def _before(asked: QueryDict) -> int | None:
    text = asked.get("before", "")
    if not text:
        return None
    number = parse_number(text)
    if number is None:
        raise NotFound("There is no such page.")
    return number


def _row(event: AuditEvent) -> dict[str, Any]:
    words = audit.ACTIONS.get(event.action) or event.action.replace(".", ": ").replace("_", " ")
    detail = []
    for name, value in event.detail.items():
        if value not in (None, "", []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            if name.endswith("_nano") and isinstance(value, int):
                name, text = name.removesuffix("_nano"), format_usd(value)  # noqa: PLW2901
            detail.append(f"{name.replace('_', ' ')}: {text}")
    return {"event": event, "words": words, "detail": "; ".join(detail)}


@member()
@require_safe
def audit_log(request: MemberRequest) -> HttpResponse:
    """List events to owners and admins, newest first."""
    _require(request)
    wanted = _wanted(request.GET)
    rows = list(
        audit.events_of(request.org, **wanted, before=_before(request.GET))[: _PER_PAGE + 1]
    )
    kept = QueryDict(mutable=True)
    for name in _FIELDS:
        if request.GET.get(name):
            kept[name] = request.GET[name]
    context = {
        "rows": [_row(event) for event in rows[:_PER_PAGE]],
        **links(request, rows[_PER_PAGE - 1].pk if len(rows) > _PER_PAGE else ""),
        "query": kept.urlencode(),
        "asked": {name: request.GET.get(name, "") for name in _FIELDS},
        "actors": audit.actors_of(request.org),
        "actions": audit.ACTIONS.items(),
    }
    return render(request, "team/audit.html", context)


def _csv_rows(org: Organisation, wanted: dict[str, Any]) -> Iterator[list[list[Any]]]:
    before: int | None = None
    while page := list(audit.events_of(org, **wanted, before=before)[:_CSV_PAGE]):
        yield [
            [row.at.isoformat(), row.actor, row.action, row.target, str(row.detail), row.trace_id]
            for row in page
        ]
        before = page[-1].pk


@member()
@require_safe
@heavy
def audit_csv(request: MemberRequest) -> HttpResponseBase:
    """Download the events that the filters leave, as CSV."""
    _require(request)
    header = ("at", "actor", "action", "target", "detail", "trace_id")
    return stream_csv("audit.csv", header, _csv_rows(request.org, _wanted(request.GET)))
