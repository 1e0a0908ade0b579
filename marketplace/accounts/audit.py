"""Remembers who acts in a request, and writes what they change to the organisation's audit log.

The middleware opens an `acting` for each request, and API authentication names the key in it.
What nobody asked for by a request, such as a beat task, is written as done by the platform.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.db.models import QuerySet

from marketplace.accounts.models import ApiKey, AuditEvent, Organisation, User

PLATFORM = "the platform"
ACTIONS = {
    "key.create": "Key made",
    "key.rotate": "Key rotated",
    "key.revoke": "Key revoked",
    "member.invite": "Member invited",
    "member.join": "Member joined",
    "member.role": "Role changed",
    "member.remove": "Member removed",
    "organisation.create": "Organisation founded",
    "organisation.update": "Profile changed",
    "organisation.budget": "Organisation's budget set",
    "retention.set": "Retention set",
    "project.create": "Project made",
    "project.update": "Project changed",
    "project.archive": "Project archived",
    "webhook.url": "Webhook address set",
    "webhook.endpoint": "Webhook endpoint made",
    "webhook.change": "Webhook endpoint changed",
    "webhook.off": "Webhook endpoint switched off",
    "webhook.remove": "Webhook endpoint removed",
    "webhook.secret": "Webhook secret made",
    "webhook.read": "Webhook secret read by a program",
    "webhook.reveal": "Webhook secret shown",
    "webhook.test": "Test event sent",
    "webhook.replay": "Webhook sent again",
    "webhook.replay_failed": "Failed webhooks sent again",
    "job.cancel": "Job cancelled",
    "job.purge": "Job's data deleted",
    "billing.top_up": "Top-up begun",
    "billing.profile": "Billing details changed",
    "billing.recharge": "Automatic recharge set",
    "billing.card": "Saved card changed",
    "billing.alert": "Balance alert set",
    "billing.code": "Promotion code redeemed",
    "version.take_back": "Version taken back from review",
}
"""What is written by this package and the pages, in words; other apps may write more."""


@dataclass(slots=True)
class Actor:
    """Who acts: `request` of a person, or the key that a program showed."""

    request: Any = None
    key: ApiKey | None = None

    @property
    def user(self) -> User | None:
        """Return the signed-in person, if there is one."""
        user = getattr(self.request, "user", None)
        return user if isinstance(user, User) else None

    def name(self) -> str:
        """Return what to call the actor."""
        if self.key is not None:
            return f"key {self.key.name} ({self.key.prefix}…)"
        user = self.user
        if user is None:
            return PLATFORM
        return f"{user} (staff)" if getattr(user, "is_hijacked", False) else str(user)


_ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)


@contextmanager
def acting(actor: Actor) -> Iterator[Actor]:
    """Write what happens within as done by `actor`."""
    token = _ACTOR.set(actor)
    try:
        yield actor
    finally:
        _ACTOR.reset(token)


def name_key(key: ApiKey) -> None:
    """Say that the current request shows `key`."""
    actor = _ACTOR.get()
    if actor is not None:
        actor.key = key


def record(*, org: Organisation, action: str, target: object = "", **detail: Any) -> AuditEvent:
    """Write one event; call it in the transaction that makes it true. No secret belongs in it."""
    actor = _ACTOR.get() or Actor()
    return AuditEvent.objects.create(
        org=org,
        user_id=None if actor.key or actor.user is None else actor.user.pk,
        api_key=actor.key,
        actor=actor.name()[:200],
        action=action,
        target=str(target)[:200],
        detail=detail,
        trace_id=str(structlog.contextvars.get_contextvars().get("trace_id", ""))[:64],
    )


def events_of(
    org: Organisation,
    *,
    actor: str = "",
    action: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
) -> "QuerySet[AuditEvent]":
    """Return an organisation's events, newest first; those with ids below `before`."""
    rows = AuditEvent.objects.for_org(org)
    if actor:
        rows = rows.filter(actor=actor)
    if action:
        rows = rows.filter(action=action)
    if since is not None:
        rows = rows.filter(at__gte=since)
    if until is not None:
        rows = rows.filter(at__lt=until)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    return rows.order_by("-pk")


def actors_of(org: Organisation, limit: int = 100) -> list[str]:
    """Return who acted of late, by name, to choose from."""
    recent = AuditEvent.objects.for_org(org).order_by("-pk").values_list("actor", flat=True)
    return sorted(set(recent[: 20 * limit]))[:limit]
