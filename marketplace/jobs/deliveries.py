"""What an organisation's servers were told: of its jobs and of its account, in one list."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from marketplace.accounts import audit
from marketplace.accounts.models import AccountEvent, Organisation
from marketplace.core import limits
from marketplace.core.errors import NotFound, WrongState
from marketplace.core.ids import parse_id
from marketplace.core.webhooks import WebhookRow
from marketplace.jobs.models import WebhookDelivery

KINDS: dict[str, type[WebhookRow]] = {"job": WebhookDelivery, "account": AccountEvent}
_PER_SECOND, _BURST = 0.1, 10


@dataclass(frozen=True, slots=True)
class Told:
    """A row of the list: `kind` says of which table."""

    kind: str
    row: Any


def _of(table: Any, org: Organisation) -> Any:
    return table.objects.for_org(org)


def _cursor(text: str) -> tuple[datetime, uuid.UUID]:
    at, _, pk = text.partition("~")
    try:
        return datetime.fromisoformat(at), uuid.UUID(pk)
    except ValueError as error:
        raise NotFound("There is no such page.") from error


def deliveries_page(
    *, org: Organisation, kind: str = "", state: str = "", before: str = "", limit: int = 25
) -> tuple[list[Told], str]:
    """Return up to `limit` deliveries, newest first, and the cursor of the next page or "".

    `kind` and `state` narrow it. Raises NotFound for a cursor that is none.
    """
    found: list[Told] = []
    for name, table in KINDS.items():
        if kind and kind != name:
            continue
        rows: Any = _of(table, org)
        if state:
            rows = rows.filter(delivery=state)
        if before:
            at, pk = _cursor(before)
            rows = rows.filter(Q(created_at__lt=at) | Q(created_at=at, pk__lt=pk))
        newest = rows.order_by("-created_at", "-pk").defer("payload", "last_answer")
        found += [Told(name, row) for row in newest[: limit + 1]]
    found.sort(key=lambda told: (told.row.created_at, told.row.pk), reverse=True)
    if len(found) <= limit:
        return found, ""
    last = found[limit - 1].row
    return found[:limit], f"{last.created_at.isoformat()}~{last.pk}"


def _rows(org: Organisation, kind: str, delivery_id: object) -> Any:
    table = KINDS.get(kind)
    if table is None:
        raise NotFound("There is no such delivery.")
    return _of(table, org).filter(pk=parse_id(delivery_id))


def delivery_get(*, org: Organisation, kind: str, delivery_id: object) -> Any:
    """Return a delivery of the organisation. Raises NotFound."""
    row = _rows(org, kind, delivery_id).first()
    if row is None:
        raise NotFound("There is no such delivery.")
    return row


@transaction.atomic
def delivery_replay(*, org: Organisation, kind: str, delivery_id: object) -> None:
    """Send an event again, with the id it had. Raises NotFound, TooManyRequests, WrongState."""
    row = delivery_get(org=org, kind=kind, delivery_id=delivery_id)
    replays_limit(org)
    if not type(row).send_again(_rows(org, kind, delivery_id)):
        raise WrongState("It is still being tried; there is nothing to send again yet.")
    audit.record(org=org, action="webhook.replay", target=row.event, id=str(row.pk))


def replays_limit(org: Organisation) -> None:
    """Count one webhook that somebody asked for. Raises TooManyRequests."""
    limits.require("webhooks sent by hand", f"replay:{org.pk}", _PER_SECOND, _BURST)
