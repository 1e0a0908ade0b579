"""Reads of users, organisations and keys."""

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from marketplace.accounts import tokens
from marketplace.accounts.models import ApiKey, Invitation, Membership, Organisation, Project, User
from marketplace.core.clock import now
from marketplace.core.errors import NotAuthenticated, NotFound
from marketplace.core.ids import parse_id

_LAST_USED_EVERY = timedelta(minutes=1)


def api_key_authenticate(token: str) -> ApiKey:
    """Return the key with its organisation. Raises NotAuthenticated saying what is wrong.

    The secret before a rotation works until its grace is over. One indexed query;
    `last_used_at` is written at most once a minute.
    """
    if not tokens.is_well_formed(token):
        raise NotAuthenticated(
            "This is not an API key: its form or checksum is wrong. Was it copied whole?",
            code="malformed_key",
        )
    shown = tokens.digest(token)
    key = (
        ApiKey.objects.select_related("org", "project")
        .filter(Q(digest=shown) | Q(before_digest=shown))
        .first()
    )
    if key is None:
        raise NotAuthenticated("This API key does not exist here.", code="unknown_key")
    moment = now()
    _require_live(key, moment)
    if key.digest != shown and (key.before_until is None or key.before_until <= moment):
        raise NotAuthenticated(
            "This API key was rotated, and its old secret has ended.", code="rotated_key"
        )
    if key.last_used_at is None or key.last_used_at < moment - _LAST_USED_EVERY:
        ApiKey.objects.filter(
            Q(last_used_at__isnull=True) | Q(last_used_at__lt=moment - _LAST_USED_EVERY), pk=key.pk
        ).update(last_used_at=moment)
    return key


def _require_live(key: ApiKey, moment: datetime) -> None:
    if key.revoked_at is not None:
        raise NotAuthenticated("This API key was revoked.", code="revoked_key")
    if key.expires_at is not None and key.expires_at <= moment:
        raise NotAuthenticated("This API key has expired.", code="expired_key")


def api_key_of_id(key_id: str) -> ApiKey:
    """Return the key that something we signed stands for. Raises NotAuthenticated once it ended."""
    key = ApiKey.objects.select_related("org", "project").filter(pk=parse_id(key_id)).first()
    if key is None:
        raise NotAuthenticated("This API key does not exist here.", code="unknown_key")
    _require_live(key, now())
    return key


def organisations_of(user: User) -> list[Organisation]:
    """Return the organisations of a user, the first joined first."""
    rows = Membership.objects.filter(user=user).select_related("org").order_by("created_at")
    return [row.org for row in rows]


def keys_of(org: Organisation) -> "QuerySet[ApiKey]":
    """Return an organisation's keys, newest first, with who made them."""
    return ApiKey.objects.for_org(org).select_related("created_by", "project")


def projects_of(org: Organisation) -> "QuerySet[Project]":
    """Return an organisation's projects that are in use, by name."""
    return Project.objects.for_org(org).filter(archived_at__isnull=True)


def project_get(*, org: Organisation, project_id: object) -> Project:
    """Return a project of an organisation, archived or not. Raises NotFound."""
    found = Project.objects.for_org(org).filter(pk=parse_id(project_id)).first()
    if found is None:
        raise NotFound("There is no such project.")
    return found


def members_of(org: Organisation) -> "QuerySet[Membership]":
    """Return the memberships of an organisation, the first joined first."""
    return Membership.objects.for_org(org).select_related("user").order_by("created_at")


def invitations_open(org: Organisation) -> "QuerySet[Invitation]":
    """Return invitations that can still be accepted, newest first."""
    return (
        Invitation.objects.for_org(org)
        .filter(accepted_at__isnull=True, expires_at__gt=now())
        .order_by("-created_at")
    )


def invitation_get(token: str) -> Invitation:
    """Return an open invitation with its organisation. Raises NotFound."""
    found = (
        Invitation.objects.select_related("org", "invited_by")
        .filter(token_digest=tokens.digest(token), accepted_at__isnull=True, expires_at__gt=now())
        .first()
    )
    if found is None:
        raise NotFound("This invitation is not valid, or no longer.")
    return found


def organisation_get(slug: str) -> Organisation:
    """Return an organisation by its address. Raises NotFound."""
    org = Organisation.objects.filter(slug=slug).first()
    if org is None:
        raise NotFound("There is no such organisation.")
    return org
