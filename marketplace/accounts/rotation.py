"""Replaces secrets while what uses them goes on: keys of the API, the secret of webhooks."""

import base64
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from marketplace.accounts import audit, tokens
from marketplace.accounts.models import ApiKey, Membership, Organisation, Scope
from marketplace.accounts.services import GIVERS, key_beyond, key_unlimited_require, scopes_refused
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotAllowed, NotFound, WrongState
from marketplace.core.ids import parse_id

MOST_GRACE_H = 24 * 30


@transaction.atomic
def api_key_rotate(
    *,
    org: Organisation,
    key_id: object,
    grace_h: int,
    by: ApiKey | None = None,
    member: Membership | None = None,
) -> tuple[ApiKey, str]:
    """Give a key a new secret; the one it has works for `grace_h` hours more (0: ends now).

    The key stays what it is: its budget, project and jobs are not begun anew. A second rotation
    ends the secret of the first at once. `by` is the key that rotates: one with a project or a
    budget may rotate only itself, any other only itself and what it could make. `member` is who
    rotates on a page: the new secret is theirs to see, so the key may have no scope that their
    role may not give. Raises NotFound, NotAllowed, InvalidInput, WrongState.
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


def _new_webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


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


@transaction.atomic
def webhook_secret_rotate(*, org: Organisation) -> tuple[str, datetime]:
    """Make a new secret. Returns it, and until when webhooks are signed with both.

    Each webhook then carries two signatures, and a receiver that knows either secret accepts it.
    """
    locked = Organisation.objects.select_for_update().get(pk=org.pk)
    moment = now()
    until = moment + timedelta(hours=settings.WEBHOOK_SECRET_GRACE_H)
    locked.webhook_secret_before, locked.webhook_secret_before_until = locked.webhook_secret, until
    locked.webhook_secret = _new_webhook_secret()
    locked.webhook_secret_shown_at = moment
    locked.save(
        update_fields=[
            "webhook_secret", "webhook_secret_shown_at",
            "webhook_secret_before", "webhook_secret_before_until",
        ]
    )  # fmt: skip
    audit.record(org=org, action="webhook.secret")
    return locked.webhook_secret, until
