"""Rows that must reach somebody else: claimed with a lease, sent, marked, retried with backoff."""

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.db import models, transaction
from django.db.models import F, Min

from marketplace.core.clock import now


class Delivery(models.TextChoices):
    """Where a row stands on its way out."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class OutboxRow(models.Model):
    """Base of every table that is also a queue of messages to another party.

    A row is written in the transaction that makes it true. A sender claims rows by moving
    `next_attempt_at` into the future (the lease), commits, sends, and then marks the outcome;
    if the sender dies, the lease runs out and another one sends again. What is sent carries an
    id derived from the row, so that the receiver can tell a repetition.
    """

    lease_s: ClassVar[int] = 60
    backoff_s: ClassVar[tuple[int, ...]] = (5, 30, 120, 600, 1800, 3600)
    max_attempts: ClassVar[int | None] = None
    claim_with: ClassVar[tuple[str, ...]] = ()
    """What is read together with a claimed row."""

    delivery = models.CharField(max_length=10, choices=Delivery, default=Delivery.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=now)
    replayed_at_attempt = models.PositiveIntegerField(
        default=0, help_text="Attempts are never reset: this counts those before a replay."
    )
    first_attempt_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was first really sent."
    )
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        """No table of its own."""

        abstract = True

    @classmethod
    def claim(cls, limit: int, **only: Any) -> list[Self]:
        """Lease up to `limit` due rows to the caller, oldest first."""
        with transaction.atomic():
            due = cls._default_manager.select_for_update(skip_locked=True, of=("self",))
            if cls.claim_with:
                due = due.select_related(*cls.claim_with)
            rows = list(
                due.filter(delivery=Delivery.PENDING, next_attempt_at__lte=now(), **only).order_by(
                    "next_attempt_at"
                )[:limit]
            )
            lease = now() + timedelta(seconds=cls.lease_s)
            cls._default_manager.filter(pk__in=[row.pk for row in rows]).update(
                attempts=F("attempts") + 1, next_attempt_at=lease
            )
            for row in rows:
                row.attempts += 1
                row.next_attempt_at = lease
        return rows

    @classmethod
    def claim_while(cls, budget_s: float, chunk: int, **only: Any) -> Iterator[Self]:
        """Yield claimed rows until none is due or the time is up.

        `chunk` rows are leased at once: as many as surely fit into a lease.
        """
        until = time.monotonic() + budget_s
        while time.monotonic() < until and (rows := cls.claim(chunk, **only)):
            yield from rows

    def mark_sending(self) -> None:
        """Note the moment of the first send: what came before it reached nobody."""
        if self.first_attempt_at is None:
            self.first_attempt_at = now()
            self._finish(first_attempt_at=self.first_attempt_at)

    @property
    def is_exhausted(self) -> bool:
        """Tell whether as many attempts were made as a row of this kind gets."""
        limit = self.max_attempts
        return limit is not None and self.attempts - self.replayed_at_attempt >= limit

    def _finish(self, **changes: Any) -> bool:
        """Write the outcome unless a later claim has taken the row over."""
        return bool(
            type(self)
            ._default_manager.filter(pk=self.pk, attempts=self.attempts, delivery=Delivery.PENDING)
            .update(**changes)
        )

    def mark_delivered(self) -> None:
        """Record that the other party has it."""
        self._finish(delivery=Delivery.DELIVERED, delivered_at=now(), last_error="")

    @classmethod
    def mark_all_delivered(cls, rows: Iterable[Self]) -> None:
        """Record that the other party has these rows: as `mark_delivered` does, but together."""
        by_attempt: dict[int, list[Any]] = defaultdict(list)
        for row in rows:
            by_attempt[row.attempts].append(row.pk)
        for attempts, pks in by_attempt.items():
            cls._default_manager.filter(
                pk__in=pks, attempts=attempts, delivery=Delivery.PENDING
            ).update(delivery=Delivery.DELIVERED, delivered_at=now(), last_error="")

    def mark_retry(self, why: str, after_s: float | None = None) -> None:
        """Record a passing failure; the next attempt is later, with jitter."""
        tries = max(self.attempts - self.replayed_at_attempt, 1)
        wait = after_s or self.backoff_s[min(tries, len(self.backoff_s)) - 1]
        wait *= random.uniform(0.8, 1.2)
        self._finish(next_attempt_at=now() + timedelta(seconds=wait), last_error=why[:2000])

    def mark_failed(self, why: str) -> None:
        """Record a lasting failure: nobody tries again until a person replays the row."""
        self._finish(delivery=Delivery.FAILED, last_error=why[:2000])

    @classmethod
    def replay(cls, queryset: "models.QuerySet[Any]") -> int:
        """Make failed rows due again. Returns how many.

        `attempts` goes on counting: keys that must be fresh per attempt are made of it. And
        `first_attempt_at` stays: what was sent before may have arrived all the same.
        """
        return queryset.filter(delivery=Delivery.FAILED).update(
            delivery=Delivery.PENDING,
            next_attempt_at=now(),
            replayed_at_attempt=F("attempts"),
            last_error="",
        )

    @classmethod
    def oldest_pending(cls) -> datetime | None:
        """Return since when the oldest undelivered row has been waiting, backoff included."""
        rows = cls._default_manager.filter(delivery=Delivery.PENDING)
        oldest: datetime | None = rows.aggregate(oldest=Min("created_at"))["oldest"]
        return oldest
