"""Writes to owners and admins when an endpoint of theirs was switched off because it went deaf."""

from functools import partial

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
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


def endpoints_mail(limit: int = 100) -> int:
    """Send the mails that are due, each once. Returns how many were sent."""
    due = WebhookEndpoint.objects.filter(
        off_at__gt=now() - TRY_FOR, off_mailed_at__isnull=True, removed_at__isnull=True
    ).exclude(off_why="")
    sent = 0
    for pk in due.order_by("-off_at").values_list("pk", flat=True)[:limit]:
        with transaction.atomic():
            rows = due.select_for_update(skip_locked=True, of=("self",)).select_related("org")
            row = rows.filter(pk=pk).first()
            if row is None or row.off_at is None:
                continue  # another process tells it, or it is on again
            try:
                outcome = mail_try(f"endpoint:{pk}:{row.off_at.isoformat()}", partial(_mail, row))
            except MailServerAway:
                return sent
            if outcome is Outcome.LATER:
                continue
            row.off_mailed_at = now()
            row.save(update_fields=["off_mailed_at"])
            sent += outcome is Outcome.SENT
    return sent
