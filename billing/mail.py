"""E-mail to the people of an organisation who look after its money.

One bad address must not keep other organisations' mails back: what a mail server says of one
mail is told apart from a server that is away.
"""

import smtplib
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import Enum, auto

import structlog
from django.conf import settings
from django.core.cache import cache
from django.core.mail import send_mail
from django.db import transaction

from marketplace.accounts.models import Organisation, Role
from marketplace.core.clock import now

log = structlog.get_logger("mercato.billing.mail")
_READERS = (Role.OWNER, Role.ADMIN, Role.BILLING)

TRY_FOR = timedelta(days=3)
REST = timedelta(hours=1)
_OF_ONE_MAIL = (
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPSenderRefused,
    smtplib.SMTPDataError,
    smtplib.SMTPNotSupportedError,  # an address beyond ASCII
    ValueError,  # a line break in a header, an address that cannot be written
)


class Outcome(Enum):
    """What became of a try to send one mail."""

    SENT = auto()
    LATER = auto()
    GIVEN_UP = auto()


class MailServerAway(Exception):
    """No mail can be sent now: the rest waits for the next run."""


def mail_try(about: str, write: Callable[[], None]) -> Outcome:
    """Send one mail, or put it off, when it is refused, for an hour, and for three days at most.

    `about` names the mail, the same at each try; `write` sends it. Raises MailServerAway if
    the server cannot be reached.
    """
    key, moment = f"mail:refused:{about}", int(now().timestamp())
    first, wait_until = cache.get(key) or (moment, 0)
    if moment < wait_until:
        return Outcome.LATER
    try:
        write()
    except _OF_ONE_MAIL as error:
        if moment - first >= TRY_FOR.total_seconds():
            log.error("mail given up", about=about, error=repr(error)[:300])
            return Outcome.GIVEN_UP
        log.warning("mail refused", about=about, error=repr(error)[:300])
        rest = int(REST.total_seconds())
        cache.set(key, [first, moment + rest], timeout=2 * TRY_FOR.total_seconds())
        return Outcome.LATER
    except OSError as error:  # smtplib's other errors are such, too
        log.warning("mail server away", about=about, error=repr(error)[:300])
        raise MailServerAway from error
    return Outcome.SENT


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
    subject = " ".join(f"{subject} ({org.name})".split())

    def send() -> None:
        try:
            send_mail(subject, body, None, to)
        except (OSError, ValueError) as error:
            log.warning("mail not sent", org=str(org.pk), subject=subject, error=repr(error))

    if to:
        transaction.on_commit(send)
