"""Replaces secrets while what uses them goes on: keys of the API, the secret of webhooks."""

import base64
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from marketplace.accounts import audit, tokens
from marketplace.accounts.models import ApiKey, AuditEvent, Membership, Organisation, Scope
from marketplace.accounts.services import GIVERS, key_beyond, key_unlimited_require, scopes_refused
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotAllowed, NotFound, WrongState
from marketplace.core.ids import parse_id

MOST_GRACE_H = 24 * 30
REPEAT = timedelta(minutes=10)
"""For how long the same request again is answered with the secret that it made."""


@transaction.atomic
def api_key_rotate(
    *,
    org: Organisation,
    key_id: object,
    grace_h: int,
    by: ApiKey | None = None,
    member: Membership | None = None,
    once: str = "",
    current: str | None = None,
) -> tuple[ApiKey, str]:
    """Give a key a new secret; the one it has works for `grace_h` hours more (0: ends now).

    The key stays what it is: its budget, project and jobs are not begun anew. A second rotation
    ends the secret of the first at once. `by` is the key that rotates: one with a project or a
    budget may rotate only itself, any other only itself and what it could make. `member` is who
    rotates on a page: the new secret is theirs to see, so the key may have no scope that their
    role may not give.

    `once` names the request: sent again, it changes nothing and has the same answer, so that a
    double click does not end the secret in use. `current` is the prefix that the asker saw.
    Raises NotFound, NotAllowed, InvalidInput, WrongState.
    """
    if not 0 <= grace_h <= MOST_GRACE_H:
        why = f"0 to {MOST_GRACE_H} hours."
        raise InvalidInput("The grace is out of range.", fields={"grace_hours": [why]})
    rows = ApiKey.objects.select_for_update().for_org(org)
    key: ApiKey | None = rows.filter(pk=parse_id(key_id)).first()
    if key is None:
        raise NotFound("There is no such key.")
    if member is not None and (refused := scopes_refused(member.role, key.scopes)):
        roles = " or ".join(GIVERS[Scope(refused[0])])
        raise NotAllowed(f"Only {roles} may rotate a key with {' and '.join(refused)}.")
    if by is not None and by.pk != key.pk:
        key_unlimited_require(by, "rotate other keys")
        if fields := key_beyond(by, key.scopes, key.expires_at, key.allowed_models):
            raise InvalidInput("That key may do more than yours.", fields=fields)
    if not key.is_usable:
        raise WrongState("The key is revoked or has expired. Make another one.")
    token, moment = tokens.new_token(), now()
    if once:
        asker = by.pk if by else member.user_id if member else ""
        token = tokens.repeatable_token("key", key.pk, asker, once)
        if _is_repeated(key, token, moment):
            return key, token
    if current is not None and current != key.prefix:
        raise WrongState(f"The key was rotated meanwhile: its secret is {key.prefix}… now.")
    key.before_digest = key.digest if grace_h else None
    key.before_prefix = key.prefix if grace_h else ""
    key.before_until = moment + timedelta(hours=grace_h) if grace_h else None
    key.prefix, key.digest = token[: tokens.VISIBLE], tokens.digest(token)
    key.rotated_at = moment
    key.save()
    audit.record(
        org=org, action="key.rotate", target=key.name, prefix=key.prefix, grace_hours=grace_h
    )
    return key, token


def _is_repeated(key: ApiKey, token: str, moment: datetime) -> bool:
    """Tell whether a request made `token` just now. Raises WrongState where it did before that."""
    if key.digest == tokens.digest(token) and key.rotated_at and moment < key.rotated_at + REPEAT:
        return True
    prefix = token[: tokens.VISIBLE]
    past = AuditEvent.objects.for_org(key.org_id).filter(action="key.rotate")
    if past.filter(detail__prefix=prefix).exists():  # a secret that ended must not come back
        raise WrongState("This request has rotated the key already.", code="rotated_already")
    return False


def rotation_mark(org: Organisation) -> str:
    """Return what tells one rotation of the webhooks' secret from the next."""
    until = org.webhook_secret_before_until
    return until.isoformat() if until else ""


@transaction.atomic
def webhook_secret_show(*, org: Organisation) -> str:
    """Return the secret that webhooks are signed with, once. Raises WrongState after that."""
    locked = Organisation.objects.select_for_update().get(pk=org.pk)
    if locked.webhook_secret_shown_at is not None:
        raise WrongState("The secret was shown already. Make a new one.")
    locked.webhook_secret_shown_at = now()
    locked.save(update_fields=["webhook_secret_shown_at"])
    audit.record(org=org, action="webhook.reveal")
    return locked.webhook_secret


def webhook_secret_read(*, org: Organisation) -> str:
    """Return the secret to a program that checks signatures: each time, and each is on record."""
    audit.record(org=org, action="webhook.read")
    return org.webhook_secret


@transaction.atomic
def webhook_secret_rotate(
    *, org: Organisation, once: str = "", current: str | None = None
) -> tuple[str, datetime]:
    """Make a new secret. Returns it, and until when webhooks are signed with both.

    Each webhook then carries two signatures, and a receiver that knows either secret accepts it.
    `once` names the request, which has the same answer when it is sent again; `current` is the
    `rotation_mark` that the asker saw. Raises WrongState when somebody was faster.
    """
    locked = Organisation.objects.select_for_update().get(pk=org.pk)
    moment, made = now(), secrets.token_bytes(24)
    if once:
        made = tokens.repeatable_bytes("webhooks", org.pk, once)[:24]
    fresh = "whsec_" + base64.b64encode(made).decode()
    shown, before_until = locked.webhook_secret_shown_at, locked.webhook_secret_before_until
    if locked.webhook_secret == fresh and shown and before_until and moment < shown + REPEAT:
        return fresh, before_until
    if current is not None and current != rotation_mark(locked):
        raise WrongState("Another secret was made meanwhile.")
    until = moment + timedelta(hours=settings.WEBHOOK_SECRET_GRACE_H)
    locked.webhook_secret_before, locked.webhook_secret_before_until = locked.webhook_secret, until
    locked.webhook_secret = fresh
    locked.webhook_secret_shown_at = moment
    locked.save(
        update_fields=[
            "webhook_secret", "webhook_secret_shown_at",
            "webhook_secret_before", "webhook_secret_before_until",
        ]
    )  # fmt: skip
    audit.record(org=org, action="webhook.secret")
    return locked.webhook_secret, until
