"""Tells an organisation's own server what happens to its account, such as a budget that runs out.

Whoever causes an event writes it in the transaction that makes it true.
"""

from typing import Any

from django.db import transaction

from marketplace.accounts import audit
from marketplace.accounts.models import AccountEvent, Organisation
from marketplace.core.errors import WrongState
from marketplace.core.ids import derived_id, new_id
from marketplace.core.webhooks import payload_of, url_check


def event_create(*, org: Organisation, event: str, source: object, data: dict[str, Any]) -> bool:
    """Write an event, once per (event, source). Returns whether there is a new one to send.

    Without a `webhook_url` of the organisation there is nothing to send.
    """
    if not org.webhook_url:
        return False
    _, is_new = AccountEvent.objects.get_or_create(
        id=derived_id("account_event", event, source),
        defaults={
            "org": org,
            "event": event,
            "url": org.webhook_url,
            "payload": payload_of(event, data),
        },
    )
    return is_new


@transaction.atomic
def webhook_url_set(*, org: Organisation, url: str) -> None:
    """Say where events of the account go; empty means nowhere. Raises InvalidInput."""
    url = url.strip()
    if url:
        url_check(url)
    org.webhook_url = url
    org.save(update_fields=["webhook_url"])
    audit.record(org=org, action="webhook.url", target=url)


def event_test(*, org: Organisation) -> None:
    """Send an event that says nothing, to see whether the server hears it.

    Raises WrongState without an address.
    """
    if not org.webhook_url:
        raise WrongState("Give the address of your server first.")
    data = {"message": "This is a test. Nothing has happened."}
    with transaction.atomic():
        event_create(org=org, event="webhook.test", source=new_id(), data=data)
        audit.record(org=org, action="webhook.test", target=org.webhook_url)


def events_send(budget_s: float = 30.0) -> int:
    """Send what is due. Returns how many were delivered."""
    return AccountEvent.send_due(budget_s)
