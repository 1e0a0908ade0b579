"""Sends events to the servers of others: Standard Webhooks, signed, retried, guarded.

Specification: standardwebhooks.com. The id of an event is derived from what it tells, so that a
receiver can drop repetitions.
"""

import json
import random
import time
from abc import abstractmethod
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.db import models, transaction
from standardwebhooks.webhooks import Webhook

from marketplace.core import http
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, MarketError
from marketplace.core.outbox import Delivery, OutboxRow
from marketplace.core.text import printable

log = structlog.get_logger("mercato.core.webhooks")
_ANSWER_KEPT = 2000
_GONE = 410
_AFTER = timedelta(milliseconds=1)
_SLOW_S = 1.0
"""A send that took longer lets those to other servers go first."""
URL_LENGTH = 2000
"""Bytes of an address that events are sent to: an index holds no more than 2,704."""


class WebhookRow(OutboxRow):
    """Base of tables of events, each for one URL. The row's id is sent as `webhook-id`."""

    backoff_s = (5, 15, 40, 120, 420, 900, 1500, 1800, 2400)  # two hours in all
    max_attempts = 10

    event = models.CharField(max_length=40)
    url = models.URLField(max_length=URL_LENGTH)
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

    @property
    def held_back(self) -> str:
        """Return why it must not be sent, "" if it may."""
        return ""

    def on_delivered(self) -> None:
        """Do what follows when the receiver has it."""

    def on_failed(self, *, given_up: bool, gone: bool) -> None:
        """Do what follows when an attempt failed: the last one, or one that was answered 410."""

    def signed(self, body: bytes, moment: datetime) -> dict[str, str]:
        """Return the headers by which a receiver knows that the body is ours, and fresh."""
        return {
            "webhook-id": str(self.pk),
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(
                Webhook(secret).sign(str(self.pk), moment, body.decode()) for secret in self.secrets
            ),
        }

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
        # One by one: a slow receiver then delays the others by no more than one exchange.
        return sum(_deliver(row) for row in cls.claim_while(budget_s, chunk=1))


def url_check(url: str, field: str = "webhook_url") -> None:
    """Raise InvalidInput unless events may be sent to `url`."""
    try:
        http.check_url(url)
    except http.OutboundRefused as error:
        raise InvalidInput(error.message, fields={field: [error.message]}) from error
    if len(url.encode()) > URL_LENGTH:
        why = f"At most {URL_LENGTH} bytes in UTF-8."
        raise InvalidInput(f"{field}: {why}", fields={field: [why]})


def payload_of(event: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the body that an event of this kind has."""
    return {"type": event, "timestamp": now().isoformat(), "data": data}


def _send(row: WebhookRow) -> http.Answer:
    body = json.dumps(row.payload, separators=(",", ":")).encode()
    moment = now()
    headers = {"Content-Type": "application/json", **row.signed(body, moment)}
    left = True
    try:
        return http.post(row.url, body, headers)
    except (http.OutboundRefused, http.OutboundUnreached):
        left = False
        raise
    finally:
        if left:
            type(row)._default_manager.filter(pk=row.pk).update(last_sent_at=moment)


def _due_besides(row: Any) -> "models.QuerySet[Any]":
    """Return what else is due of a row's organisation.

    Not of others: who shares a host with them must not be able to hold theirs back.
    """
    rows: models.QuerySet[Any] = type(row)._default_manager.filter(org_id=row.org_id)
    return rows.filter(delivery=Delivery.PENDING, next_attempt_at__lte=now()).exclude(pk=row.pk)


def _same_server(row: Any) -> "models.QuerySet[Any]":
    """Return what is due besides to the server of a row, whatever the case it was written in."""
    parts = urlsplit(row.url)
    origin = f"{parts.scheme}://{parts.netloc}"
    there = models.Q(url__iexact=origin)
    for mark in "/?#":
        there |= models.Q(url__istartswith=origin + mark)
    return _due_besides(row).filter(there)


def _put_back(row: Any, rows: "models.QuerySet[Any]", to: datetime) -> None:
    """Have rows be due at `to`, but for those that another sender takes or moves right now.

    Two that put back each other's would wait crosswise.
    """
    with transaction.atomic():
        free = rows.select_for_update(skip_locked=True, no_key=True)
        type(row)._default_manager.filter(pk__in=free.values("pk")).update(next_attempt_at=to)


def _give_way(row: WebhookRow, *, heard: bool) -> None:
    """After a slow send, put what else is due of its organisation behind what is due of others.

    All of it, for one server has many names; what goes to the same comes last. Where that server
    did not answer, the attempt counts for all that is due to it: they would have failed as well,
    each after as long a wait.
    """
    moment = now()
    _put_back(row, _due_besides(row), moment)
    rows = _same_server(row)
    if heard:
        _put_back(row, rows, moment + _AFTER)
        return
    why = "Its server did not answer another event just before."
    counted = {"attempts": models.F("attempts") + 1, "last_error": why}
    rows = rows.annotate(tries=models.F("attempts") - models.F("replayed_at_attempt"))
    for last in rows.filter(tries__gte=row.max_attempts - 1).select_related(*row.claim_with):
        if rows.filter(pk=last.pk).update(delivery=Delivery.FAILED, **counted):
            last.on_failed(given_up=True, gone=False)
    waits = [moment + timedelta(seconds=s * random.uniform(0.8, 1.2)) for s in row.backoff_s]
    cases = [models.When(tries=tries, then=models.Value(at)) for tries, at in enumerate(waits)]
    rows.update(next_attempt_at=models.Case(*cases, default=models.Value(waits[-1])), **counted)


def _attempt(row: WebhookRow) -> tuple[str, bool, bool]:
    """Send a row. Returns what went wrong, "" for nothing; whether for good; whether unanswered."""
    try:
        answer = _send(row)
    except MarketError as error:
        return error.message, error.status == 422, True
    except Exception as error:  # one row must not stop the others
        log.exception("webhook not sent", delivery=str(row.pk))
        return type(error).__name__, False, False
    type(row)._default_manager.filter(pk=row.pk).update(
        last_status=answer.status,
        last_answer=printable(answer.body[:_ANSWER_KEPT].decode(errors="replace")),
    )
    if 200 <= answer.status < 300:
        return "", False, False
    return f"HTTP {answer.status}", answer.status == _GONE, False


def _deliver(row: WebhookRow) -> bool:
    if why := row.held_back:
        row.mark_failed(why)
        return False
    row.mark_sending()
    began = time.monotonic()
    why, lasting, unanswered = _attempt(row)
    if time.monotonic() - began > _SLOW_S:
        _give_way(row, heard=not unanswered)
    if not why:
        row.mark_delivered()
        row.on_delivered()
        return True
    given_up = lasting or row.is_exhausted
    if given_up:
        row.mark_failed(why)
    else:
        row.mark_retry(why)
    row.on_failed(given_up=given_up, gone=why == f"HTTP {_GONE}")
    log.info("webhook not delivered", delivery=str(row.pk), why=why, attempt=row.attempts)
    return False
