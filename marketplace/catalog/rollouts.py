"""Which version `vendor/name` means: the stable one, or for a share of callers a newer one.

Who gets the canary follows from the organisation's id and the canary's, so it never flickers: an
organisation that is in at 10 % is in at 20 %. A call that names a number never moves.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from marketplace.accounts.models import User
from marketplace.catalog.models import Model, Status, Version
from marketplace.catalog.rollout_models import Retirement, Rollout, RolloutAction, RolloutEvent
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.text import printable

_BUCKETS = 10_000


def bucket_of(org_id: object, canary_id: object) -> int:
    """Return where an organisation stands in the order in which a canary is given out."""
    digest = hashlib.sha256(f"mercato.canary:{canary_id}:{org_id}".encode()).digest()
    return int.from_bytes(digest[:8]) % _BUCKETS


def is_in(org_id: object, canary_id: object, percent: int) -> bool:
    """Tell whether an organisation is among the `percent` that get a canary."""
    return bucket_of(org_id, canary_id) < percent * (_BUCKETS // 100)


def rollout_of(model: Model) -> Rollout | None:
    """Return the rollout of a model, if its vendor has ever chosen one."""
    return Rollout.objects.filter(model=model).select_related("stable", "canary").first()


def choose(
    versions: Iterable[Version], rollout: Rollout | None, org_id: object | None
) -> Version | None:
    """Return which of a model's callable `versions`, newest first, a bare name means for `org_id`.

    A visitor (None) is shown the stable one. If what was chosen cannot be called any more, it is
    the newest that can.
    """
    found = list(versions)
    by_id = {version.pk: version for version in found}
    if rollout is not None:
        canary = by_id.get(rollout.canary_id) if rollout.canary_id else None
        if canary and org_id is not None and is_in(org_id, canary.pk, rollout.percent):
            return canary
        if rollout.stable_id in by_id:
            return by_id[rollout.stable_id]
    return found[0] if found else None


def _note(
    model: Model,
    version: Version,
    action: RolloutAction,
    by: User | None,
    percent: int | None = None,
    note: str = "",
) -> RolloutEvent:
    return RolloutEvent.objects.create(
        model=model, version=version, action=action, percent=percent, by=by, note=note
    )


def _plain(note: str) -> str:
    """Return a note that PostgreSQL can hold, in the length of its column."""
    return printable(note).strip()[:300]


def _lock(model: Model) -> Rollout | None:
    Model.objects.select_for_update(of=("self",)).get(pk=model.pk)
    return rollout_of(model)


def _newest_listed(model: Model, besides: Version) -> Version | None:
    rows = Version.objects.filter(model=model, status=Status.LISTED).exclude(pk=besides.pk)
    return rows.exclude(retirement__ends_at__lte=now()).order_by("-number").first()


@transaction.atomic
def canary_set(*, version: Version, percent: int, by: User | None = None) -> Rollout:
    """Give `percent` of the organisations this version; may be said before it is listed.

    All others stay with the version that they have now.
    """
    if not 1 <= percent <= 99:
        why = "Give it to 1 to 99 % of your customers; promote it for all."
        raise InvalidInput(why, fields={"percent": [why]})
    if version.status not in (Status.LISTED, Status.SUBMITTED):
        raise WrongState(f"A version that is {version.status} cannot be rolled out.")
    model = version.model
    rollout = _lock(model)
    stable = rollout.stable if rollout else _newest_listed(model, version)
    if stable is None:
        raise WrongState("There is no other listed version: all callers get this one anyway.")
    if stable.pk == version.pk:
        raise WrongState("Everybody gets this version already.")
    rollout, _ = Rollout.objects.update_or_create(
        model=model,
        defaults={"stable": stable, "canary": version, "percent": percent, "updated_at": now()},
    )
    _note(model, version, RolloutAction.CANARY, by, percent)
    return rollout


@transaction.atomic
def promote(*, version: Version, by: User | None = None) -> Rollout:
    """Give everybody this version. An older one, too: that is the way back after a promotion."""
    if version.status != Status.LISTED:
        raise WrongState("Only a listed version can be promoted.")
    if Retirement.objects.filter(version=version, ends_at__lte=now()).exists():
        raise WrongState("This version was withdrawn.")
    _lock(version.model)
    rollout, _ = Rollout.objects.update_or_create(
        model=version.model,
        defaults={"stable": version, "canary": None, "percent": 0, "updated_at": now()},
    )
    _note(version.model, version, RolloutAction.PROMOTE, by)
    return rollout


@transaction.atomic
def roll_back(*, model: Model, by: User | None = None, note: str = "") -> Rollout:
    """Give everybody the stable version again. Raises WrongState without a canary."""
    rollout = _lock(model)
    if rollout is None or rollout.canary is None:
        raise WrongState("There is no canary to roll back.")
    _note(model, rollout.canary, RolloutAction.ROLL_BACK, by, rollout.percent, _plain(note))
    rollout.canary, rollout.percent, rollout.updated_at = None, 0, now()
    rollout.save()
    return rollout


@transaction.atomic
def deprecate(
    *, version: Version, ends_at: datetime, note: str = "", by: User | None = None
) -> Retirement:
    """Say when a version ends: from then on nobody can call it, by number neither."""
    if version.status not in (Status.LISTED, Status.SUSPENDED):
        raise WrongState("Only a version that was listed can be withdrawn.")
    if ends_at < now():
        raise InvalidInput("Name a day to come.", fields={"ends_on": ["A day to come."]})
    retirement, _ = Retirement.objects.update_or_create(
        version=version, defaults={"ends_at": ends_at, "note": _plain(note)}
    )
    said = f"until {ends_at:%Y-%m-%d}. {_plain(note)}".strip()[:300]
    _note(version.model, version, RolloutAction.DEPRECATE, by, note=said)
    return retirement


@transaction.atomic
def keep(*, version: Version, by: User | None = None) -> None:
    """Take back a deprecation, at any time."""
    deleted, _ = Retirement.objects.filter(version=version).delete()
    if deleted:
        _note(version.model, version, RolloutAction.KEEP, by)
