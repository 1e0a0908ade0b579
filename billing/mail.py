"""E-mail to the people of an organisation who look after its money."""

from collections.abc import Sequence

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction

from marketplace.accounts.models import Organisation, Role

log = structlog.get_logger("mercato.billing.mail")
_READERS = (Role.OWNER, Role.ADMIN, Role.BILLING)


def readers_of(org: Organisation) -> list[str]:
    """Return the billing address, or else those of owners, admins and billing members."""
    profile = getattr(org, "billing_profile", None)
    if profile is not None and profile.email:
        return [profile.email]
    members = org.memberships.filter(role__in=_READERS, user__is_active=True)
    return sorted(members.values_list("user__email", flat=True))


def mail_after_commit(org: Organisation, subject: str, lines: Sequence[str]) -> None:
    """Write to an organisation once the transaction has committed; a mail server may be away."""
    to = readers_of(org)
    body = "\n\n".join(lines) + f"\n\n{settings.SITE_NAME}\n{settings.PUBLIC_URL}\n"

    def send() -> None:
        try:
            send_mail(f"{subject} ({org.name})", body, None, to)
        except OSError as error:
            log.warning("mail not sent", org=str(org.pk), subject=subject, error=repr(error))

    if to:
        transaction.on_commit(send)
