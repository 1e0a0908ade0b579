"""Splits a charge between the vendors of a royalty chain and the platform. Pure and exact."""

from dataclasses import dataclass
from typing import Any, Self

WHOLE = 10_000


@dataclass(frozen=True, slots=True)
class Share:
    """`bps` basis points of each charge belong to `org_id`, for `version_id`."""

    org_id: str
    bps: int
    version_id: str

    def to_dict(self) -> dict[str, Any]:
        """Return the share as plain JSON, as pinned on a job."""
        return {"org_id": self.org_id, "bps": self.bps, "version_id": self.version_id}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read a pinned share."""
        return cls(org_id=data["org_id"], bps=data["bps"], version_id=data["version_id"])


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
