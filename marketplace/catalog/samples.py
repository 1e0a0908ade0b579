"""Sample outputs of versions: what they show, who may see them, and how a vendor picks them."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Max

from inference.protocol import EXTENSIONS
from marketplace.accounts.models import Organisation
from marketplace.catalog.models import Status, Version, Visibility
from marketplace.catalog.sample_models import SampleOutput
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotFound, WrongState
from marketplace.core.ids import new_id
from marketplace.core.storage import storage

MAX_SAMPLES = 8


def samples_of(versions: Iterable[Version | None]) -> dict[uuid.UUID, list[SampleOutput]]:
    """Return the samples of `versions` by version, in their vendor's order; one query.

    A version without samples is absent. Whether the caller may see the versions was checked
    when they were loaded.
    """
    found: dict[uuid.UUID, list[SampleOutput]] = defaultdict(list)
    ids = {version.pk for version in versions if version is not None}
    for row in SampleOutput.objects.filter(version_id__in=ids).order_by("position"):
        found[row.version_id].append(row)
    return dict(found)


def sample_get(
    *, sample_id: uuid.UUID, org: Organisation | None, is_staff: bool = False
) -> tuple[SampleOutput, bool]:
    """Return a sample and whether everybody may see it. Raises NotFound, for strangers too.

    Everybody sees the samples of versions that can be called and are not private; the others are
    their vendor's and staff's.
    """
    rows = SampleOutput.objects.select_related("version__model__org", "version__retirement")
    sample = rows.filter(pk=sample_id).first()
    if sample is not None:
        version = sample.version
        retirement = getattr(version, "retirement", None)
        is_public = (
            version.status == Status.LISTED
            and version.model.visibility != Visibility.PRIVATE
            and version.model.org.suspended_at is None
            and (retirement is None or retirement.ends_at > now())
        )
        is_own = org is not None and version.model.org_id == org.pk
        if is_public or is_own or is_staff:
            return sample, is_public
    raise NotFound("There is no such sample.")


def _require_draft(version: Version) -> None:
    """Lock a version and raise WrongState unless it is a draft still."""
    locked = Version.objects.select_for_update(of=("self",)).get(pk=version.pk)
    if locked.status != Status.DRAFT:
        raise WrongState("Samples are part of what is reviewed: only a draft's can be changed.")


def _next_position(version: Version) -> int:
    """Return the position of a further sample of a locked version. Raises InvalidInput."""
    rows = SampleOutput.objects.filter(version=version)
    if rows.count() >= MAX_SAMPLES:
        why = f"A version has at most {MAX_SAMPLES} samples."
        raise InvalidInput(why, fields={"samples": [why]})
    last = rows.aggregate(n=Max("position"))["n"]
    return 0 if last is None else last + 1


def _key(version: Version, sample_id: uuid.UUID, content_type: str) -> str:
    return f"samples/{version.pk}/{sample_id}.{EXTENSIONS.get(content_type, 'bin')}"


@transaction.atomic
def sample_keep(
    *,
    version: Version,
    source_key: str,
    source_id: uuid.UUID,
    content_type: str,
    size: int,
    given: dict[str, Any],
    width: int | None = None,
    height: int | None = None,
    seconds: float | None = None,
) -> SampleOutput:
    """Copy a stored output to the samples of a draft: the output itself expires.

    Keeping the same output again changes nothing.
    """
    _require_draft(version)
    position = _next_position(version)
    same = SampleOutput.objects.filter(version=version, source_id=source_id).first()
    if same is not None:
        return same
    sample_id = new_id()
    key = _key(version, sample_id, content_type)
    storage().copy(source_key, key, content_type)
    return SampleOutput.objects.create(
        id=sample_id,
        version=version,
        position=position,
        key=key,
        content_type=content_type,
        size=size,
        width=width,
        height=height,
        seconds=seconds,
        input=given,
        source_id=source_id,
    )


@transaction.atomic
def sample_put(
    *,
    version: Version,
    content: bytes,
    content_type: str,
    given: dict[str, Any],
    width: int | None = None,
    height: int | None = None,
    seconds: float | None = None,
) -> SampleOutput:
    """Store a sample of a draft from its bytes: how the models that ship come by theirs."""
    _require_draft(version)
    position, sample_id = _next_position(version), new_id()
    key = _key(version, sample_id, content_type)
    storage().put(key, content, content_type)
    return SampleOutput.objects.create(
        id=sample_id,
        version=version,
        position=position,
        key=key,
        content_type=content_type,
        size=len(content),
        width=width,
        height=height,
        seconds=seconds,
        input=given,
    )


@transaction.atomic
def sample_drop(*, version: Version, sample_id: uuid.UUID) -> None:
    """Take a sample off a draft, its object with it."""
    _require_draft(version)
    row = SampleOutput.objects.filter(version=version, pk=sample_id).first()
    if row is None:
        raise NotFound("There is no such sample.")
    row.delete()
    transaction.on_commit(lambda: storage().delete(row.key))


@transaction.atomic
def samples_order(*, version: Version, ids: Sequence[uuid.UUID]) -> None:
    """Put the samples of a draft in the order of `ids`, which must name each of them once."""
    _require_draft(version)
    rows = {row.pk: row for row in SampleOutput.objects.filter(version=version)}
    if len(ids) != len(rows) or set(ids) != set(rows):
        raise InvalidInput("Name each sample once.", fields={"order": ["Name each once."]})
    for position, sample_id in enumerate(ids):
        rows[sample_id].position = position
    SampleOutput.objects.bulk_update(rows.values(), ["position"])
