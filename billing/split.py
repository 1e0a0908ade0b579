"""Splits a charge between the vendors of a royalty chain and the platform. Pure and exact."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

WHOLE = 10_000
MAX_DEPTH = 32
MAX_ANCESTORS = 64


class ChainError(ValueError):
    """A royalty chain that cannot be paid: a cycle, too long, or more than there is to share."""


@dataclass(frozen=True, slots=True)
class Share:
    """`bps` basis points of each charge belong to `org_id`, for `version_id` by `licence_id`."""

    org_id: str
    bps: int
    version_id: str
    licence_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the share as plain JSON, as pinned on a job."""
        return {
            "org_id": self.org_id,
            "bps": self.bps,
            "version_id": self.version_id,
            "licence_id": self.licence_id,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read a pinned share; those of before licences were pinned have none."""
        return cls(
            org_id=data["org_id"],
            bps=data["bps"],
            version_id=data["version_id"],
            licence_id=data.get("licence_id", ""),
        )


@dataclass(frozen=True, slots=True)
class Work:
    """One version of a royalty chain: whose it is, what it asks for, what it was made from."""

    org_id: str
    version_id: str
    licence_id: str
    revenue_share_bps: int
    royalty_bps: int
    parents: tuple[str, ...] = ()


def ancestors(works: Mapping[str, Work], root: str) -> list[str]:
    """Return what `root` was made from, nearest first, each version once.

    Raises ChainError for a cycle, or a chain deeper or wider than what is paid. Raises KeyError
    for a parent that is not among `works`.
    """
    if _has_cycle(works, root):
        raise ChainError("A version cannot be made from itself.")
    found: list[str] = []
    level, depth = works[root].parents, 0
    while level:
        fresh = [version for version in dict.fromkeys(level) if version not in found]
        found += fresh
        level = tuple(parent for version in fresh for parent in works[version].parents)
        depth += 1
    if depth > MAX_DEPTH or len(found) > MAX_ANCESTORS:
        raise ChainError(
            f"The chain is deeper than {MAX_DEPTH} or has more than {MAX_ANCESTORS} versions."
        )
    return found


def _has_cycle(works: Mapping[str, Work], root: str) -> bool:
    """Tell whether following parents from `root` ever comes back to a version on the way."""
    on_the_way: set[str] = set()
    done: set[str] = set()
    stack: list[tuple[str, bool]] = [(root, False)]
    while stack:
        version, leaving = stack.pop()
        if leaving:
            on_the_way.discard(version)
            done.add(version)
        elif version in on_the_way:
            return True
        elif version not in done:
            on_the_way.add(version)
            stack.append((version, True))
            stack += [(parent, False) for parent in works[version].parents]
    return False


def shares_of(works: Mapping[str, Work], root: str) -> list[Share]:
    """Return who is owed which part of each charge of `root`, nearest first.

    An ancestor that is reached by several ways is paid once. The vendor of `root` comes first,
    with what the royalties leave of its licence's revenue share. Raises ChainError if they
    leave less than nothing.
    """
    own = works[root]
    chain = [works[version] for version in ancestors(works, root)]
    royalties = sum(work.royalty_bps for work in chain)
    if royalties > own.revenue_share_bps:
        raise ChainError(
            f"What it is made from is owed {royalties / 100:g} % of each charge, but the licence "
            f"shares out only {own.revenue_share_bps / 100:g} %."
        )
    left = own.revenue_share_bps - royalties
    return [
        Share(own.org_id, left, own.version_id, own.licence_id),
        *(
            Share(work.org_id, work.royalty_bps, work.version_id, work.licence_id)
            for work in chain
            if work.royalty_bps
        ),
    ]


def split(charge_nano: int, shares: list[Share]) -> tuple[list[int], int]:
    """Return (amount of each share, platform's remainder); they add up to the charge exactly.

    Each share is rounded down, so the platform's part is never negative. Raises ValueError for
    a negative charge or share, or shares of more than the whole.
    """
    if charge_nano < 0 or any(share.bps < 0 for share in shares):
        raise ValueError("a charge or a share is negative")
    if sum(share.bps for share in shares) > WHOLE:
        raise ValueError("the shares are more than the whole")
    amounts = [charge_nano * share.bps // WHOLE for share in shares]
    return amounts, charge_nano - sum(amounts)
