"""Everything that changes users, organisations, memberships, invitations and keys."""

import base64
import re
import secrets
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.db import IntegrityError, transaction

from marketplace.accounts import audit, tokens
from marketplace.accounts.models import (
    SLUG,
    ApiKey,
    Invitation,
    Membership,
    Organisation,
    Project,
    Role,
    Scope,
    User,
)
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotAllowed, NotFound, WrongState
from marketplace.core.ids import parse_id

INVITATION_PREFIX = "mi_"
GIVERS = {
    Scope.ADMIN: (Role.OWNER, Role.ADMIN),
    Scope.BILLING: (Role.OWNER, Role.ADMIN, Role.BILLING),
}
"""Scopes that only members of these roles may give to a key, and whose keys end with the role."""
FIXED_FIELDS = (
    "id", "slug", "webhook_secret", "monthly_budget_nano", "created_at",
    "keep_days", "webhook_secret_shown_at", "webhook_secret_before", "webhook_secret_before_until",
    "suspended_at",
)  # fmt: skip
_RESERVED = {"admin", "api", "v1", "console", "dashboard", "vendor", "files", "docs", "static"} | {
    "accounts", "models", "requests", "workflows", "comfy", "mercato", "healthz", "metrics"
}  # fmt: skip


def _free_slug(wanted: str) -> str:
    plain = unicodedata.normalize("NFKD", wanted).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:32].strip("-") or "org"
    if base not in _RESERVED and not Organisation.objects.filter(slug=base).exists():
        return base
    return f"{base}-{secrets.token_hex(3)}"


def _require_room(owner: User) -> None:
    """Raise NotAllowed if the person owns as many organisations as one may."""
    User.objects.select_for_update(of=("self",)).get(pk=owner.pk)  # two at once wait here
    most = settings.ORGANISATIONS_PER_USER
    if Membership.objects.filter(user=owner, role=Role.OWNER).count() >= most:
        raise NotAllowed(f"One person owns at most {most} organisations.")


@transaction.atomic
def organisation_create(*, name: str, owner: User, slug: str = "") -> Organisation:
    """Create an organisation with one owner. Raises InvalidInput for a taken or reserved slug."""
    name = name.strip()
    if not 1 <= len(name) <= 120:
        raise InvalidInput("Give a name.", fields={"name": ["1 to 120 characters."]})
    if slug and (not SLUG.regex.match(slug) or slug in _RESERVED):  # type: ignore[union-attr]
        raise InvalidInput("This address cannot be used.", fields={"slug": [str(SLUG.message)]})
    if slug and Organisation.objects.filter(slug=slug).exists():
        raise InvalidInput("This address is taken.", fields={"slug": ["It is taken."]})
    _require_room(owner)
    try:
        with transaction.atomic():
            org = Organisation.objects.create(
                name=name,
                slug=slug or _free_slug(name),
                webhook_secret="whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
            )
    except IntegrityError as error:
        raise InvalidInput(
            "This address was taken a moment ago: try again.", fields={"slug": ["It is taken."]}
        ) from error
    Membership.objects.create(org=org, user=owner, role=Role.OWNER)
    audit.record(org=org, action="organisation.create", target=org.slug)
    return org


def membership_require(*, user: User, org: Organisation, roles: Sequence[Role]) -> Membership:
    """Return the membership. Raises NotFound for outsiders, NotAllowed for another role."""
    membership = Membership.objects.for_org(org).filter(user=user).first()
    if membership is None:
        raise NotFound("There is no such organisation.")
    if membership.role not in (Role.OWNER, Role.ADMIN, *roles):
        raise NotAllowed(f"Your role in {org.name} ({membership.role}) does not allow this.")
    return membership


@transaction.atomic
def invitation_create(
    *, org: Organisation, email: str, role: Role, invited_by: User
) -> tuple[Invitation, str]:
    """Invite an address and send the link. Returns the invitation and its secret token."""
    acting = membership_require(user=invited_by, org=org, roles=[])
    if role == Role.OWNER and acting.role != Role.OWNER:
        raise NotAllowed("Only an owner can invite an owner.")
    if Membership.objects.for_org(org).filter(user__email__iexact=email).exists():
        raise InvalidInput("They are a member already.", fields={"email": ["Already a member."]})
    token = tokens.new_token(INVITATION_PREFIX)
    invitation = Invitation.objects.create(
        org=org,
        email=email.strip().lower(),
        role=role,
        token_digest=tokens.digest(token),
        invited_by=invited_by,
        expires_at=now() + timedelta(days=settings.INVITATION_DAYS),
    )
    audit.record(org=org, action="member.invite", target=invitation.email, role=str(role))
    link = f"{settings.PUBLIC_URL}/dashboard/invitations/{token}/"
    transaction.on_commit(
        lambda: send_mail(
            f"Join {org.name} on {settings.SITE_NAME}",
            f"{invited_by} invites you to {org.name} as {role}.\n\nAccept: {link}\n\n"
            f"The link works for {settings.INVITATION_DAYS} days.",
            None,
            [invitation.email],
        )
    )
    return invitation, token


@transaction.atomic
def invitation_accept(*, token: str, user: User) -> Membership:
    """Join the organisation. Raises NotFound for a bad token, NotAllowed for another address."""
    invitation = (
        Invitation.objects.select_for_update(of=("self",))
        .select_related("org")
        .filter(token_digest=tokens.digest(token))
        .first()
    )
    if invitation is None or invitation.expires_at < now():
        raise NotFound("This invitation is not valid, or no longer.")
    if invitation.email != user.email.lower():
        raise NotAllowed("This invitation is for another e-mail address.")
    if invitation.accepted_at is not None:
        raise WrongState("This invitation was accepted already.")
    invitation.accepted_at = now()
    invitation.save(update_fields=["accepted_at"])
    membership, _ = Membership.objects.get_or_create(
        org=invitation.org, user=user, defaults={"role": invitation.role}
    )
    audit.record(org=invitation.org, action="member.join", target=user, role=invitation.role)
    return membership


@transaction.atomic
def membership_remove(*, org: Organisation, user: User, removed_by: User) -> None:
    """End a membership. Raises NotFound, NotAllowed, or WrongState when no owner would be left.

    Everybody may leave; admins remove members, only owners remove owners.
    """
    # Locked in one order, so that two owners cannot remove each other at once.
    locked = list(Membership.objects.select_for_update().for_org(org).order_by("pk"))
    if user != removed_by:
        acting = membership_require(user=removed_by, org=org, roles=[])
    leaving = next((m for m in locked if m.user_id == user.pk), None)
    if leaving is None:
        return
    owners = [m for m in locked if m.role == Role.OWNER]
    if user != removed_by and leaving in owners and acting.role != Role.OWNER:
        raise NotAllowed("Only an owner can remove an owner.")
    if owners == [leaving]:
        raise WrongState("An organisation needs an owner: name another one first.")
    leaving.delete()
    _keys_end(org, user, "")
    audit.record(org=org, action="member.remove", target=user)


@transaction.atomic
def membership_set_role(
    *, org: Organisation, user: User, role: Role, changed_by: User
) -> Membership:
    """Change a member's role. Raises NotFound, NotAllowed, or WrongState for the last owner."""
    acting = membership_require(user=changed_by, org=org, roles=[])
    if role not in Role.values:
        raise InvalidInput("There is no such role.", fields={"role": ["Choose from the list."]})
    # Locked in one order, so that two owners cannot demote each other at once.
    locked = list(Membership.objects.select_for_update().for_org(org).order_by("pk"))
    membership: Membership | None = next((m for m in locked if m.user_id == user.pk), None)
    if membership is None:
        raise NotFound("They are not a member.")
    if Role.OWNER in (role, membership.role) and acting.role != Role.OWNER:
        raise NotAllowed("Only an owner can name or demote an owner.")
    owners = [m for m in locked if m.role == Role.OWNER]
    if role != Role.OWNER and owners == [membership]:
        raise WrongState("An organisation needs an owner: name another one first.")
    was, membership.role = membership.role, role
    membership.save(update_fields=["role"])
    _keys_end(org, user, role)
    audit.record(org=org, action="member.role", target=user, before=str(was), after=str(role))
    return membership


@transaction.atomic
def organisation_update(*, org: Organisation, **changes: str) -> Organisation:
    """Change what the public profile says (name, about, website, country)."""
    if unknown := changes.keys() - {"name", "about", "website", "country"}:
        raise InvalidInput("This cannot be changed.", fields={sorted(unknown)[0]: ["Fixed."]})
    for field, value in changes.items():
        setattr(org, field, value.strip())
    if org.country and not re.fullmatch(r"[A-Za-z]{2}", org.country):
        raise InvalidInput("Some fields are wrong.", fields={"country": ["Two letters."]})
    org.country = org.country.upper()
    try:
        org.clean_fields(exclude=set(FIXED_FIELDS))
    except ValidationError as error:
        raise InvalidInput("Some fields are wrong.", fields=error.message_dict) from error
    org.save(update_fields=["name", "about", "website", "country"])
    audit.record(org=org, action="organisation.update", fields=sorted(changes))
    return org


def organisation_suspend(*, org: Organisation) -> bool:
    """Stop an organisation: its calls are refused, its models hidden. Returns whether it is new.

    Jobs that run go on and are charged; money that it holds or is owed stays where it is: its
    payouts wait until it is restored and staff release them.
    """
    rows = Organisation.objects.filter(pk=org.pk, suspended_at__isnull=True)
    return bool(rows.update(suspended_at=now()))


def organisation_restore(*, org: Organisation) -> bool:
    """Let a suspended organisation call and sell again. Returns whether it was suspended."""
    rows = Organisation.objects.filter(pk=org.pk, suspended_at__isnull=False)
    return bool(rows.update(suspended_at=None))


def active_require(org: Organisation) -> None:
    """Raise NotAllowed for a suspended organisation, as the database has it now."""
    if Organisation.objects.filter(pk=org.pk, suspended_at__isnull=False).exists():
        raise NotAllowed(
            "This organisation is suspended: write to the market’s staff.",
            code="organisation_suspended",
        )


def scopes_refused(role: str, scopes: Sequence[str]) -> list[str]:
    """Return which of `scopes` a member of `role` ("" for none) may not give."""
    return [scope for scope, roles in GIVERS.items() if scope in scopes and role not in roles]


def _keys_end(org: Organisation, user: User, role: str) -> None:
    """Revoke the keys made by `user`, or with those keys, that `role` may not give."""
    keys = ApiKey.objects.for_org(org).filter(created_by=user, revoked_at__isnull=True)
    ending = [key.pk for key in keys if scopes_refused(role, key.scopes)]
    keys.filter(pk__in=ending).update(revoked_at=now())


def key_beyond(
    parent: ApiKey,
    scopes: Sequence[str],
    expires_at: datetime | None,
    allowed_models: Sequence[str],
) -> dict[str, list[str]]:
    """Return in which fields a new key would exceed the key that makes it."""
    fields: dict[str, list[str]] = {}
    if not set(scopes) <= set(parent.scopes):
        fields["scopes"] = [f"Your key has only {', '.join(parent.scopes)}."]
    if (last := parent.expires_at) and (expires_at is None or expires_at > last):
        fields["expires_at"] = [f"Your key expires at {last.isoformat()}; this one must by then."]
    models = set(allowed_models)
    if parent.allowed_models and (not models or not models <= set(parent.allowed_models)):
        fields["allowed_models"] = [f"Choose from {', '.join(parent.allowed_models)}."]
    return fields


@transaction.atomic
def api_key_create(
    *,
    org: Organisation,
    name: str,
    scopes: Sequence[str] = (Scope.RUN, Scope.READ),
    created_by: User | None = None,
    expires_at: datetime | None = None,
    monthly_budget_nano: int | None = None,
    allowed_models: Sequence[str] = (),
    project: Project | None = None,
    parent: ApiKey | None = None,
) -> tuple[ApiKey, str]:
    """Create a key. Returns it and the secret, which cannot be read again.

    Raises InvalidInput naming the fields, also where it would exceed `parent`, the key that
    makes it, or the role of `created_by`, and NotAllowed if `parent` has a budget or a project.
    Without both it is made by the platform.
    """
    fields: dict[str, list[str]] = {}
    if parent is not None:
        key_unlimited_require(parent, "make keys")
        created_by = parent.created_by
    elif created_by is not None:
        member = Membership.objects.for_org(org).filter(user=created_by).first()
        if refused := scopes_refused(member.role if member else "", scopes):
            roles = " or ".join(GIVERS[Scope(refused[0])])
            fields["scopes"] = [f"Only {roles} may give {' and '.join(refused)}."]
    if not 1 <= len(name.strip()) <= 80:
        fields["name"] = ["Give a name of 1 to 80 characters."]
    if not scopes or any(scope not in Scope.values for scope in scopes):
        fields["scopes"] = [f"Choose from {', '.join(Scope.values)}."]
    if expires_at is not None and expires_at <= now():
        fields["expires_at"] = ["It is in the past."]
    if monthly_budget_nano is not None and not 0 <= monthly_budget_nano < 2**63:
        fields["monthly_budget_nano"] = ["It is out of range."]
    if any(not re.fullmatch(r"[a-z0-9-]{1,40}/[a-z0-9.-]{1,40}", ref) for ref in allowed_models):
        fields["allowed_models"] = ["Write each model as vendor/name."]
    if project is not None and (project.org_id != org.pk or project.archived_at is not None):
        fields["project"] = ["There is no such project."]
    if parent is not None:
        fields = key_beyond(parent, scopes, expires_at, allowed_models) | fields
    if fields:
        raise InvalidInput("The key cannot be created.", fields=fields)
    token = tokens.new_token()
    key = ApiKey.objects.create(
        org=org,
        project=project,
        name=name.strip(),
        prefix=token[: tokens.VISIBLE],
        digest=tokens.digest(token),
        scopes=sorted(set(scopes)),
        created_by=created_by,
        expires_at=expires_at,
        monthly_budget_nano=monthly_budget_nano,
        allowed_models=list(allowed_models),
    )
    audit.record(
        org=org, action="key.create", target=key.name, prefix=key.prefix, scopes=key.scopes
    )
    return key, token


def key_unlimited_require(key: ApiKey, what: str) -> None:
    """Raise NotAllowed for a key with a project or a budget, which could escape its limits."""
    if key.is_limited:
        raise NotAllowed(f"A key with a project or a budget may not {what}.", code="key_is_limited")


@transaction.atomic
def api_key_revoke(*, org: Organisation, key_id: object, by: ApiKey | None = None) -> ApiKey:
    """Revoke a key at once; revoking it again changes nothing. Raises NotFound.

    `by` is the key that revokes: one with a project or a budget may revoke only itself.
    """
    key = ApiKey.objects.for_org(org).filter(pk=parse_id(key_id)).first()
    if key is None:
        raise NotFound("There is no such key.")
    if by is not None and by.pk != key.pk:
        key_unlimited_require(by, "revoke other keys")
    if key.revoked_at is None:
        key.revoked_at = now()
        key.save(update_fields=["revoked_at"])
        audit.record(org=org, action="key.revoke", target=key.name, prefix=key.prefix)
    return key


def user_signed_up(*, user: User) -> Organisation:
    """Give a new user an organisation of their own. The welcome credit is billing's part."""
    local = user.name or user.email.partition("@")[0]
    for _ in range(3):
        try:
            return organisation_create(name=local, owner=user)
        except InvalidInput:
            continue  # somebody took the same slug in between
    return organisation_create(name=local, owner=user, slug=f"org-{secrets.token_hex(6)}")
