"""Everything on its way to or from somebody else: what waits, what failed, and its replay."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps import apps
from django.contrib import messages
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from marketplace.console.access import may, needs, record
from marketplace.core.errors import NotFound
from marketplace.core.keyset import links
from marketplace.core.outbox import Delivery, OutboxRow
from marketplace.core.webhooks import WebhookRow

PAGE = 50
CAP = 1000
"""More rows than this are not counted: the page says 1000+."""
_SECRET = ("secret", "token", "password", "authorization", "signature", "api_key", "card", "url")
_NAMES = {
    "stripeevent": ("Stripe’s webhooks", "in"),
    "meterbatch": ("Meter events", "out"),
    "payout": ("Payouts", "out"),
    "topupreturn": ("Money sent back", "out"),
    "webhookdelivery": ("Webhooks of jobs", "out"),
    "accountevent": ("Webhooks of accounts", "out"),
}


@dataclass(frozen=True, slots=True)
class Queue:
    """One outbox or inbox: `name` in addresses, `title` for people."""

    name: str
    title: str
    way: str
    table: type[OutboxRow]

    @property
    def rows(self) -> "QuerySet[Any]":
        """All its rows."""
        return self.table._default_manager.all()

    def permission(self, verb: str) -> str:
        """Return the permission to view or change its rows."""
        meta = self.table._meta
        return f"{meta.app_label}.{verb}_{meta.model_name}"


@cache
def queues() -> dict[str, Queue]:
    """Return every table that is a queue, by name: none can be forgotten here."""
    found = {}
    for table in apps.get_models():
        if issubclass(table, OutboxRow):
            name = str(table._meta.model_name)
            title, way = _NAMES.get(
                name, (str(table._meta.verbose_name_plural).capitalize(), "out")
            )
            found[name] = Queue(name, title, way, table)
    return found


def label(row: Any) -> str:
    """Name a row without the address it goes to, which may hold a secret."""
    return f"{row.event} {row.pk}" if isinstance(row, WebhookRow) else str(row)


def capped(rows: "QuerySet[Any]") -> int:
    """Count rows, but no further than CAP."""
    return rows.order_by()[:CAP].count()


def capped_all(several: "list[QuerySet[Any]]") -> list[int]:
    """Count rows of several tables in one query, each no further than CAP."""
    if not several:
        return []
    parts: list[str] = []
    values: list[Any] = []
    for number, rows in enumerate(several):
        sql, given = rows.order_by().values("pk")[:CAP].query.sql_with_params()
        parts.append(f"(SELECT count(*) FROM ({sql}) t{number})")  # noqa: S608 (Django's SQL)
        values += given
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", values)
        return [int(count) for count in cursor.fetchone()]


def hidden(value: Any, key: str = "") -> Any:
    """Return JSON without what only its receiver may read: secrets, and signed addresses."""
    if isinstance(value, dict):
        return {name: hidden(part, str(name)) for name, part in value.items()}
    if isinstance(value, list):
        return [hidden(part, key) for part in value]
    if isinstance(value, str) and value and any(word in key.lower() for word in _SECRET):
        return "(hidden)"
    return value


def _queue(request: HttpRequest, name: str, verb: str = "view") -> Queue:
    found = queues().get(name)
    if found is None:
        raise NotFound("There is no such queue.")
    changes = request.user.has_perm(found.permission("change"))
    if not (verb == "view" and changes):
        may(request, found.permission(verb))
    return found


@require_safe
@needs()
def overview(request: HttpRequest) -> HttpResponse:
    """List the queues with what waits and what failed."""
    mine = [
        queue
        for queue in queues().values()
        if any(request.user.has_perm(queue.permission(verb)) for verb in ("view", "change"))
    ]
    states = (Delivery.PENDING, Delivery.FAILED)
    counts = iter(capped_all([q.rows.filter(delivery=state) for q in mine for state in states]))
    shown = [
        {
            "queue": queue,
            "pending": next(counts),
            "failed": next(counts),
            "oldest": queue.table.oldest_pending(),
        }
        for queue in mine
    ]
    context = {"title": "Outbox and inbox", "queues": shown, "cap": CAP}
    return render(request, "console/queues.html", context)


@require_safe
@needs()
def queue_rows(request: HttpRequest, name: str) -> HttpResponse:
    """List the rows of one queue, newest first, a page at a time."""
    queue = _queue(request, name)
    state = request.GET.get("state", Delivery.FAILED)
    rows = queue.rows.filter(delivery=state) if state in Delivery.values else queue.rows
    if (before := request.GET.get("before", "")) and (last := _find(queue, before)):
        rows = rows.filter(
            Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, pk__lt=last.pk)
        )
    found = list(rows.order_by("-created_at", "-pk")[: PAGE + 1])
    context = {
        "title": queue.title,
        "queue": queue,
        "rows": [(row, label(row)) for row in found[:PAGE]],
        **links(request, found[PAGE - 1].pk if len(found) > PAGE else ""),
        "state": state,
        "states": Delivery.values,
        "may_replay": request.user.has_perm(queue.permission("change")),
    }
    return render(request, "console/queue.html", context)


def _find(queue: Queue, key: str) -> Any:
    field = queue.table._meta.pk
    assert field is not None
    try:
        return queue.rows.filter(pk=field.to_python(key)).first()
    except Exception as error:  # whatever a field raises, such a row there is not
        raise NotFound("There is no such row.") from error


@require_safe
@needs()
def queue_row(request: HttpRequest, name: str, key: str) -> HttpResponse:
    """Show one row: its payload without secrets, its error and its attempts."""
    queue = _queue(request, name)
    row = _find(queue, key)
    if row is None:
        raise NotFound("There is no such row.")
    skipped = ("payload", "url")
    facts = [
        (field.verbose_name, getattr(row, field.attname))
        for field in row._meta.concrete_fields
        if field.name not in skipped and not any(word in field.name for word in _SECRET)
    ]
    payload = getattr(row, "payload", None)
    context = {
        "title": queue.title,
        "queue": queue,
        "row": row,
        "label": label(row),
        "facts": [(label, value) for label, value in facts if value not in (None, "")],
        "payload": json.dumps(_payload(payload), indent=2, ensure_ascii=False) if payload else "",
        "may_replay": row.delivery == Delivery.FAILED
        and request.user.has_perm(queue.permission("change")),
    }
    return render(request, "console/queue_row.html", context)


def _payload(value: Any) -> Any:
    """Read a payload, which some queues keep as text, and hide its secrets."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    return hidden(value)


@require_POST
@needs()
@transaction.atomic
def replay(request: HttpRequest, name: str) -> HttpResponse:
    """Make the chosen failed rows due again, or every failed one (`all`)."""
    queue = _queue(request, name, "change")
    rows = queue.rows
    if not request.POST.get("all"):
        chosen = [row.pk for key in request.POST.getlist("row") if (row := _find(queue, key))]
        rows = rows.filter(pk__in=chosen)
    count = queue.table.replay(rows)
    if count:
        record(request, "queue.replayed", f"{queue.title}: {count} row(s)")
    messages.success(request, f"{count} row{'' if count == 1 else 's'} will be tried again.")
    return redirect(reverse("admin:queue", args=[queue.name]))
