"""What an organisation's servers were told: of its jobs and of its account, in one list."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from marketplace.accounts import audit, endpoints
from marketplace.accounts.models import ApiKey, Organisation
from marketplace.accounts.webhook_models import AccountEvent, WebhookEndpoint
from marketplace.core import limits
from marketplace.core.errors import NotFound, WrongState
from marketplace.core.ids import parse_id
from marketplace.core.outbox import Delivery
from marketplace.core.webhooks import WebhookRow
from marketplace.jobs.models import WebhookDelivery

KINDS: dict[str, type[WebhookRow]] = {"job": WebhookDelivery, "account": AccountEvent}
_PER_SECOND, _BURST = 0.1, 10
MOST_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Told:
    """A row of the list: `kind` says of which table."""

    kind: str
    row: Any


def _of(table: Any, org: Organisation) -> Any:
    return table.objects.for_org(org)


def _to(table: Any, endpoint: WebhookEndpoint) -> Any:
    """Return the rows of an endpoint, which the caller has found to be the organisation's.

    By nothing else: PostgreSQL takes organisation and endpoint to be independent, and would
    rather walk all of the former than use the index of the latter.
    """
    return table.objects.filter(endpoint=endpoint)


def _failed(table: Any, endpoint: WebhookEndpoint) -> Any:
    """Return what failed of an endpoint, oldest first.

    In that order an index has them; without one PostgreSQL hopes to meet one soon among all rows.
    """
    return _to(table, endpoint).filter(delivery=Delivery.FAILED).order_by("created_at", "pk")


def _cursor(text: str) -> tuple[datetime, uuid.UUID]:
    at, _, pk = text.partition("~")
    try:
        return datetime.fromisoformat(at), uuid.UUID(pk)
    except ValueError as error:
        raise NotFound("There is no such page.") from error


def deliveries_page(
    *,
    org: Organisation,
    kind: str = "",
    state: str = "",
    endpoint: WebhookEndpoint | None = None,
    before: str = "",
    limit: int = 25,
) -> tuple[list[Told], str]:
    """Return up to `limit` deliveries, newest first, and the cursor of the next page or "".

    `kind`, `state` and `endpoint`, one of the organisation's, narrow it. Raises NotFound for a
    cursor that is none.
    """
    found: list[Told] = []
    for name, table in KINDS.items():
        if kind and kind != name:
            continue
        rows: Any = _of(table, org) if endpoint is None else _to(table, endpoint)
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


def delivery_find(*, org: Organisation, delivery_id: object) -> Told:
    """Return a delivery of the organisation, of whichever kind. Raises NotFound."""
    for kind, table in KINDS.items():
        row = _of(table, org).filter(pk=parse_id(delivery_id)).select_related("endpoint").first()
        if row is not None:
            return Told(kind, row)
    raise NotFound("There is no such delivery.")


def delivery_get(*, org: Organisation, kind: str, delivery_id: object) -> Any:
    """Return a delivery of a kind. Raises NotFound."""
    told = delivery_find(org=org, delivery_id=delivery_id)
    if told.kind != kind:
        raise NotFound("There is no such delivery.")
    return told.row


@transaction.atomic
def delivery_replay(*, org: Organisation, delivery_id: object) -> Told:
    """Send an event again, with the id it had. Raises NotFound, TooManyRequests, WrongState."""
    told = delivery_find(org=org, delivery_id=delivery_id)
    if told.row.held_back:
        raise WrongState(f"{told.row.held_back} Switch it on first.")
    replays_limit(org)
    table: Any = KINDS[told.kind]
    if not table.send_again(table.objects.filter(pk=told.row.pk)):
        raise WrongState("It is still being tried; there is nothing to send again yet.")
    audit.record(org=org, action="webhook.replay", target=told.row.event, id=str(told.row.pk))
    told.row.refresh_from_db()
    return told


@transaction.atomic
def failed_replay(*, org: Organisation, endpoint_id: object) -> int:
    """Send again what failed for an endpoint, or was missed while it was off: the oldest first.

    At most MOST_AT_ONCE of each kind: call it again for more. Returns how many there were.
    Raises NotFound, TooManyRequests, and WrongState for an endpoint that is off.
    """
    endpoint = endpoints.endpoint_get(org=org, endpoint_id=endpoint_id)
    if not endpoint.is_on:
        raise WrongState("The endpoint is switched off. Switch it on first.")
    replays_limit(org)
    count = 0
    for table in KINDS.values():
        rows = _failed(table, endpoint)
        again = rows.filter(pk__in=list(rows.values_list("pk", flat=True)[:MOST_AT_ONCE]))
        # To the address that the endpoint has now: it may be why they failed.
        again.update(url=endpoint.url)
        count += table.send_again(again)
    audit.record(org=org, action="webhook.replay_failed", target=endpoint.url, count=count)
    return count


def has_failed(endpoint: WebhookEndpoint) -> bool:
    """Tell whether something for an endpoint failed, or was missed."""
    return any(_failed(table, endpoint).values("pk")[:1] for table in KINDS.values())


def endpoint_test(
    *, org: Organisation, endpoint_id: object, key: ApiKey | None = None
) -> AccountEvent:
    """Send a test event, counted. Raises NotFound, NotAllowed, TooManyRequests, WrongState."""
    endpoints.key_require(key)
    endpoints.endpoint_get(org=org, endpoint_id=endpoint_id)
    replays_limit(org)
    return endpoints.endpoint_test(org=org, endpoint_id=endpoint_id)


def replays_limit(org: Organisation) -> None:
    """Count one webhook that somebody asked for. Raises TooManyRequests."""
    limits.require("webhooks sent by hand", f"replay:{org.pk}", _PER_SECOND, _BURST)
