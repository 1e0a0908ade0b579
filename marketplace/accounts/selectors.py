"""Reads of users, organisations and keys."""

from datetime import timedelta

from django.db.models import Q

from marketplace.accounts import tokens
from marketplace.accounts.models import ApiKey, Membership, Organisation, User
from marketplace.core.clock import now
from marketplace.core.errors import NotAuthenticated

_LAST_USED_EVERY = timedelta(minutes=1)


def api_key_authenticate(token: str) -> ApiKey:
    """Return the key with its organisation. Raises NotAuthenticated saying what is wrong.

    One indexed query; `last_used_at` is written at most once a minute.
    """
    if not tokens.is_well_formed(token):
        raise NotAuthenticated(
            "This is not an API key: its form or checksum is wrong. Was it copied whole?",
            code="malformed_key",
        )
    key = ApiKey.objects.select_related("org").filter(digest=tokens.digest(token)).first()
    if key is None:
        raise NotAuthenticated("This API key does not exist here.", code="unknown_key")
    if key.revoked_at is not None:
        raise NotAuthenticated("This API key was revoked.", code="revoked_key")
    moment = now()
    if key.expires_at is not None and key.expires_at <= moment:
        raise NotAuthenticated("This API key has expired.", code="expired_key")
    if key.last_used_at is None or key.last_used_at < moment - _LAST_USED_EVERY:
        ApiKey.objects.filter(
            Q(last_used_at__isnull=True) | Q(last_used_at__lt=moment - _LAST_USED_EVERY), pk=key.pk
        ).update(last_used_at=moment)
    return key


def organisations_of(user: User) -> list[Organisation]:
    """Return the organisations of a user, the first joined first."""
    rows = Membership.objects.filter(user=user).select_related("org").order_by("created_at")
    return [row.org for row in rows]
