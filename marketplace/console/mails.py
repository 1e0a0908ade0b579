"""Tells the people of an organisation by mail what staff decided about it."""

from collections.abc import Sequence

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction

from marketplace.accounts.models import Membership, Organisation, Role


def tell_vendor(org: Organisation, subject: str, paragraphs: Sequence[str]) -> None:
    """Mail owners and admins once the transaction has committed; each gets a mail of their own."""
    rows = Membership.objects.for_org(org).filter(role__in=[Role.OWNER, Role.ADMIN])
    addresses = list(rows.values_list("user__email", flat=True))
    text = "\n\n".join(part for part in paragraphs if part)
    body = f"{text}\n\nAnswer this mail if you think that we are wrong.\n\n{settings.SITE_NAME}"

    def send() -> None:
        for address in addresses:
            # What staff decided stands, whether or not mail works at this moment.
            send_mail(f"{settings.SITE_NAME}: {subject}", body, None, [address], fail_silently=True)

    transaction.on_commit(send)
