"""Writes to owners and admins when an endpoint of theirs was switched off because it went deaf."""

import uuid
from functools import partial

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.template.loader import render_to_string

from billing.mail import TRY_FOR, MailServerAway, Outcome, mail_try
from marketplace.accounts.models import Role
from marketplace.accounts.webhook_models import MISSED_FOR, WebhookEndpoint
from marketplace.core.clock import now


def _mail(row: WebhookEndpoint) -> None:
    members = row.org.memberships.filter(
        role__in=[Role.OWNER, Role.ADMIN], user__is_active=True
    ).order_by("user__email")
    to = list(members.values_list("user__email", flat=True))
    body = render_to_string(
        "emails/endpoint_off.txt",
        {
            "endpoint": row,
            "missed_days": MISSED_FOR.days,
            "site_name": settings.SITE_NAME,
            "public_url": settings.PUBLIC_URL,
        },
    )
    subject = f"[{settings.SITE_NAME}] A webhook endpoint of {row.org} was switched off"
    if to:
        EmailMessage(" ".join(subject.split()), body, None, to).send()


def _taken(pk: uuid.UUID) -> bool:
    """Take the telling about an endpoint for this transaction, unless another process has it.

    Not the row: who switches it on, and jobs that end and refer to it, with their wallet's locks,
    would wait for a mail server.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [f"endpoint mail:{pk}"]
        )
        found = cursor.fetchone()
    return bool(found and found[0])


def endpoints_mail(limit: int = 100) -> int:
    """Send the mails that are due, each once. Returns how many were sent."""
    due = WebhookEndpoint.objects.filter(
        off_at__gt=now() - TRY_FOR, off_mailed_at__isnull=True, removed_at__isnull=True
    ).exclude(off_why="")
    sent = 0
    for pk in due.order_by("-off_at").values_list("pk", flat=True)[:limit]:
        with transaction.atomic():
            if not _taken(pk):
                continue
            row = due.select_related("org").filter(pk=pk).first()
            if row is None or row.off_at is None:
                continue  # another process has told it, or it is on again
            try:
                outcome = mail_try(f"endpoint:{pk}:{row.off_at.isoformat()}", partial(_mail, row))
            except MailServerAway:
                return sent
            if outcome is Outcome.LATER:
                continue
            told = WebhookEndpoint.objects.filter(pk=pk, off_at=row.off_at)
            told.update(off_mailed_at=now())
            sent += outcome is Outcome.SENT
    return sent
