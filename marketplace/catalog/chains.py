"""Reads what a version was made from, and who is therefore owed a part of its charges.

A version's parents are its base and the further ones that it names. They are written with the
version and must exist by then, so the graph has no cycles; one that had is refused all the same.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from billing import split
from billing.split import Share, Work
from marketplace.catalog.models import Licence, Version, VersionParent
from marketplace.core.errors import WrongState


@dataclass(frozen=True, slots=True)
class Chain:
    """A version, all that it was made from, nearest first, and each one's part of a charge."""

    version: Version
    ancestors: tuple[Version, ...]
    shares: tuple[Share, ...]

    @property
    def licences(self) -> list[Licence]:
        """Return the terms that bind a caller: the version's own and its ancestors', once."""
        found = {v.licence_id: v.licence for v in (self.version, *self.ancestors)}
        return list(found.values())


def _links(ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[uuid.UUID]]:
    found = defaultdict(list)
    rows = VersionParent.objects.filter(version_id__in=list(ids)).order_by("position")
    for version_id, parent_id in rows.values_list("version_id", "parent_id"):
        found[version_id].append(parent_id)
    return found


def _graph(
    version: Version, parents: Sequence[Version] | None
) -> tuple[dict[str, Work], dict[str, Version]]:
    """Return the chain as the pure values that are split, and its rows, both by version."""
    works: dict[str, Work] = {}
    rows: dict[str, Version] = {}
    level = [version]
    while level and len(rows) <= split.MAX_ANCESTORS:
        links = _links(row.pk for row in level)
        if parents is not None:
            links[version.pk] = [parent.pk for parent in parents]
        wanted: dict[uuid.UUID, None] = {}
        for row in level:
            made_from = [*([row.base_id] if row.base_id else []), *links.get(row.pk, [])]
            rows[str(row.pk)] = row
            works[str(row.pk)] = Work(
                org_id=str(row.model.org_id),
                version_id=str(row.pk),
                licence_id=str(row.licence_id),
                revenue_share_bps=row.licence.revenue_share_bps,
                royalty_bps=row.licence.royalty_bps,
                parents=tuple(str(parent) for parent in made_from),
            )
            wanted |= dict.fromkeys(made_from)
        level = list(
            Version.objects.select_related("licence", "model__org").filter(
                pk__in=[parent for parent in wanted if str(parent) not in rows]
            )
        )
    if level:
        raise split.ChainError(f"It is made from more than {split.MAX_ANCESTORS} versions.")
    return works, rows


def chain_check(version: Version, parents: Sequence[Version] | None = None) -> Chain:
    """Return the chain of `version`. Raises ChainError if it cannot be paid.

    `parents` are those that a version which is not yet written will name besides its base.
    """
    works, rows = _graph(version, parents)
    root = str(version.pk)
    found = [rows[ancestor] for ancestor in split.ancestors(works, root)]
    return Chain(version, tuple(found), tuple(split.shares_of(works, root)))


def made_from(version: Version, parents: Sequence[Version] | None = None) -> list[Version]:
    """Return all that `version` was made from, whether or not that can be paid."""
    works, rows = _graph(version, parents)
    return [rows[ancestor] for ancestor in split.ancestors(works, str(version.pk))]


def chain_of(version: Version) -> Chain:
    """Return the chain of a written version. Raises WrongState if it cannot be paid."""
    try:
        return chain_check(version)
    except split.ChainError as error:
        raise WrongState(f"{version} cannot be sold: {error}") from error


def ancestors(version: Version) -> list[Version]:
    """Return what a version was made from, nearest first. Raises WrongState past the limits."""
    return list(chain_of(version).ancestors)


def shares(version: Version) -> list[Share]:
    """Return who is owed which part of each charge of `version`, its own vendor first."""
    return list(chain_of(version).shares)
