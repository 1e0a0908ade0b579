"""Where an organisation's server is told of events: makes, changes and removes its endpoints."""

from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from marketplace.accounts import audit
from marketplace.accounts.models import ApiKey, Organisation, User
from marketplace.accounts.services import key_unlimited_require
from marketplace.accounts.webhook_models import AccountEvent, HookEvent, WebhookEndpoint
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotFound, WrongState
from marketplace.core.ids import new_id, parse_id
from marketplace.core.webhooks import payload_of, url_check

MOST = 10
ALL_EVENTS: tuple[str, ...] = tuple(HookEvent.values)


def key_require(key: ApiKey | None) -> None:
    """Raise NotAllowed for a key with limits: endpoints hear of the whole organisation."""
    if key is not None:
        key_unlimited_require(key, "see or change the webhooks of the whole organisation")


def endpoints_of(org: Organisation) -> "QuerySet[WebhookEndpoint]":
    """Return an organisation's endpoints, newest first."""
    return WebhookEndpoint.objects.in_use().for_org(org)


def endpoint_get(*, org: Organisation, endpoint_id: object, lock: bool = False) -> WebhookEndpoint:
    """Return an endpoint of the organisation. Raises NotFound, also for one being removed."""
    rows = endpoints_of(org).filter(pk=parse_id(endpoint_id))
    # Not its key: jobs that end meanwhile refer to it, and shall not wait.
    row = (rows.select_for_update(no_key=True) if lock else rows).first()
    if row is None:
        raise NotFound("There is no such endpoint.")
    return row


def _url(url: str) -> str:
    url = url.strip()
    if not url:
        raise InvalidInput("Give an address.", fields={"url": ["Give an address."]})
    url_check(url, "url")
    return url


def _events(events: Sequence[str]) -> list[str]:
    """Return the events in their order. Raises InvalidInput for none, or one that is none."""
    unknown = sorted(set(events) - set(ALL_EVENTS))
    if unknown or not events:
        why = f"There is no event {unknown[0]}." if unknown else "Choose at least one."
        raise InvalidInput("The events are not valid.", fields={"events": [why]})
    return [event for event in ALL_EVENTS if event in events]


def _note(note: str) -> str:
    note = note.strip()
    if len(note) > 120:
        raise InvalidInput("The note is too long.", fields={"note": ["At most 120 characters."]})
    return note


def _write(row: WebhookEndpoint, **save: Any) -> None:
    try:
        with transaction.atomic():
            row.save(**save)
    except IntegrityError as error:
        why = "There is an endpoint with this address already."
        raise InvalidInput(why, fields={"url": [why]}) from error


@transaction.atomic
def endpoint_create(
    *,
    org: Organisation,
    url: str,
    events: Sequence[str] = ALL_EVENTS,
    note: str = "",
    user: User | None = None,
    key: ApiKey | None = None,
) -> WebhookEndpoint:
    """Make an endpoint, switched on. Raises InvalidInput, NotAllowed, WrongState beyond MOST."""
    key_require(key)
    row = WebhookEndpoint(
        org=org, url=_url(url), events=_events(events), note=_note(note), created_by=user
    )
    Organisation.objects.select_for_update().get(pk=org.pk)  # two at once wait here
    if endpoints_of(org).count() >= MOST:
        raise WrongState(f"There are {MOST} endpoints, which is the most. Remove one first.")
    _write(row, force_insert=True)
    audit.record(org=org, action="webhook.endpoint", target=row.url, events=row.events)
    return row


@transaction.atomic
def endpoint_update(
    *,
    org: Organisation,
    endpoint_id: object,
    url: str | None = None,
    events: Sequence[str] | None = None,
    note: str | None = None,
    on: bool | None = None,
    key: ApiKey | None = None,
) -> WebhookEndpoint:
    """Change what is given; `on` switches it. Raises NotFound, InvalidInput, NotAllowed.

    Switched off, what waits for it is given up; switched on, its failures are forgotten.
    """
    key_require(key)
    row = endpoint_get(org=org, endpoint_id=endpoint_id, lock=True)
    if url is not None:
        row.url = _url(url)
    if events is not None:
        row.events = _events(events)
    if note is not None:
        row.note = _note(note)
    if on and row.off_at is not None:
        row.off_at = row.off_mailed_at = row.failing_since = None
        row.off_why, row.given_up = "", 0
    _write(row)
    if on is False:
        row.switch_off("")
    audit.record(org=org, action="webhook.change", target=row.url, events=row.events, on=row.is_on)
    return row


@transaction.atomic
def endpoint_remove(*, org: Organisation, endpoint_id: object, key: ApiKey | None = None) -> None:
    """Remove an endpoint; what was sent to it stays in the list. Raises NotFound, NotAllowed."""
    key_require(key)
    row = endpoint_get(org=org, endpoint_id=endpoint_id, lock=True)
    row.removed_at = now()
    row.save(update_fields=["removed_at"])
    row.drop_pending()
    audit.record(org=org, action="webhook.remove", target=row.url)


@transaction.atomic
def endpoint_test(*, org: Organisation, endpoint_id: object) -> AccountEvent:
    """Send an event that says nothing, to see whether the server hears it.

    Raises NotFound, and WrongState for one that is switched off.
    """
    row = endpoint_get(org=org, endpoint_id=endpoint_id)
    if not row.is_on:
        raise WrongState("The endpoint is switched off. Switch it on first.")
    event = AccountEvent.objects.create(
        id=new_id(),
        org=org,
        endpoint=row,
        event="webhook.test",
        url=row.url,
        payload=payload_of("webhook.test", {"message": "This is a test. Nothing has happened."}),
    )
    audit.record(org=org, action="webhook.test", target=row.url)
    return event
