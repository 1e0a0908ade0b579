"""Tells an organisation's own servers what happens to its account, such as a budget that runs out.

Whoever causes an event writes it in the transaction that makes it true.
"""

from typing import Any

from marketplace.accounts.models import Organisation
from marketplace.accounts.webhook_models import OFF, AccountEvent, WebhookEndpoint
from marketplace.core.ids import derived_id
from marketplace.core.outbox import Delivery
from marketplace.core.webhooks import payload_of


def event_create(*, org: Organisation, event: str, source: object, data: dict[str, Any]) -> bool:
    """Write an event for each endpoint that subscribes to it, once per (event, source, endpoint).

    Returns whether there is something new. Without an endpoint there is nothing to send.
    """
    payload = payload_of(event, data)
    rows = [
        AccountEvent(
            id=derived_id("account_event", event, source, endpoint.pk),
            org=org,
            endpoint=endpoint,
            event=event,
            url=endpoint.url,
            payload=payload,
            **state_for(endpoint),
        )
        for endpoint in WebhookEndpoint.objects.for_org(org).told_of(event)
    ]
    told = set(
        AccountEvent.objects.filter(pk__in=[row.pk for row in rows]).values_list("pk", flat=True)
    )
    AccountEvent.objects.bulk_create(rows, ignore_conflicts=True)
    return len(told) < len(rows)


def state_for(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return how a new row for an endpoint begins: to be sent, or missed while it is off."""
    return {} if endpoint.is_on else {"delivery": Delivery.FAILED, "last_error": OFF}


def events_send(budget_s: float = 30.0) -> int:
    """Send what is due. Returns how many were delivered."""
    return AccountEvent.send_due(budget_s)
