"""Sends events to the servers of others: Standard Webhooks, signed, retried, guarded.

Specification: standardwebhooks.com. The id of an event is derived from what it tells, so that a
receiver can drop repetitions.
"""

import json
from abc import abstractmethod
from typing import Any

import structlog
from django.db import models
from standardwebhooks.webhooks import Webhook

from marketplace.core import http
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, MarketError
from marketplace.core.outbox import Delivery, OutboxRow
from marketplace.core.text import printable

log = structlog.get_logger("mercato.core.webhooks")
_ANSWER_KEPT = 2000


class WebhookRow(OutboxRow):
    """Base of tables of events, each for one URL. The row's id is sent as `webhook-id`."""

    backoff_s = (5, 15, 60, 300, 900, 1800, 3600)
    max_attempts = 8

    event = models.CharField(max_length=40)
    url = models.URLField(max_length=2000)
    payload = models.JSONField()
    last_status = models.PositiveSmallIntegerField(null=True, blank=True)
    last_sent_at = models.DateTimeField(null=True, blank=True)
    last_answer = models.TextField(blank=True, db_default="", help_text="Its body, cut.")

    class Meta:
        """No table of its own."""

        abstract = True

    def __str__(self) -> str:
        return f"{self.event} to {self.url}"

    @property
    @abstractmethod
    def secrets(self) -> list[str]:
        """Return the secrets of which the receiver knows one: it is signed with each."""

    @classmethod
    def send_again(cls, queryset: "models.QuerySet[Any]") -> int:
        """Make ended rows due again, delivered ones too. Returns how many.

        They keep their ids, so that a receiver can tell that it has seen them.
        """
        return queryset.exclude(delivery=Delivery.PENDING).update(
            delivery=Delivery.PENDING,
            next_attempt_at=now(),
            replayed_at_attempt=models.F("attempts"),
            delivered_at=None,
            last_error="",
        )

    @classmethod
    def send_due(cls, budget_s: float = 30.0) -> int:
        """Send what is due. Returns how many were delivered."""
        return sum(_deliver(row) for row in cls.claim_while(budget_s, chunk=3))


def url_check(url: str, field: str = "webhook_url") -> None:
    """Raise InvalidInput unless events may be sent to `url`."""
    try:
        http.check_url(url)
    except http.OutboundRefused as error:
        raise InvalidInput(error.message, fields={field: [error.message]}) from error


def payload_of(event: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the body that an event of this kind has."""
    return {"type": event, "timestamp": now().isoformat(), "data": data}


def _send(row: WebhookRow) -> http.Answer:
    body = json.dumps(row.payload, separators=(",", ":"))
    moment = now()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": str(row.pk),
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(str(row.pk), moment, body) for secret in row.secrets
        ),
    }
    type(row)._default_manager.filter(pk=row.pk).update(last_sent_at=moment)
    return http.post(row.url, body.encode(), headers)


def _deliver(row: WebhookRow) -> bool:
    row.mark_sending()
    try:
        answer = _send(row)
    except MarketError as error:
        why, lasting = error.message, error.status == 422
    except Exception as error:  # one row must not stop the others
        log.exception("webhook not sent", delivery=str(row.pk))
        why, lasting = type(error).__name__, False
    else:
        type(row)._default_manager.filter(pk=row.pk).update(
            last_status=answer.status,
            last_answer=printable(answer.body[:_ANSWER_KEPT].decode(errors="replace")),
        )
        if 200 <= answer.status < 300:
            row.mark_delivered()
            return True
        why, lasting = f"HTTP {answer.status}", answer.status == 410
    if lasting or row.is_exhausted:
        row.mark_failed(why)
    else:
        row.mark_retry(why)
    log.info("webhook not delivered", delivery=str(row.pk), why=why, attempt=row.attempts)
    return False
