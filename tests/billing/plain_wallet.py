"""A wallet in plain integers: says of every call what must pay for it, for tests to compare."""

import uuid
from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass
class Grant:
    id: uuid.UUID
    remaining: int
    priority: int
    expires_at: datetime | None
    scope: str | None
    held: int = 0


@dataclass
class Hold:
    amount: int
    wallet: int
    draws: list[tuple[Grant, int]]
    caps: list[tuple[uuid.UUID, date]]


@dataclass
class Paid:
    """How a charge was funded."""

    grants: list[tuple[uuid.UUID, int]]
    prepaid: int
    postpaid: int


class Refused(Exception):
    """The call cannot be afforded; says by whom."""


@dataclass
class PlainWallet:
    """All of an organisation's money, as if in one piece and used by one caller at a time."""

    prepaid: int = 0
    owed: int = 0
    limit: int = 0
    grants: list[Grant] = field(default_factory=list)
    holds: dict[uuid.UUID, Hold] = field(default_factory=dict)
    spent: dict[tuple[uuid.UUID, date], int] = field(default_factory=dict)
    reserved: dict[tuple[uuid.UUID, date], int] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(hold.wallet for hold in self.holds.values())

    @property
    def available(self) -> int:
        return self.prepaid + self.limit - self.owed - self.held

    def usable(self, now: datetime, scopes: set[str]) -> list[Grant]:
        """Return the grants that may pay for a call, in the order of their use."""
        end = datetime.max.replace(tzinfo=now.tzinfo)
        return sorted(
            (
                grant
                for grant in self.grants
                if grant.remaining > grant.held
                and (grant.expires_at is None or grant.expires_at > now)
                and (grant.scope is None or grant.scope in scopes)
            ),
            key=lambda grant: (grant.priority, grant.expires_at or end, grant.id),
        )

    def reserve(
        self,
        source: uuid.UUID,
        amount: int,
        caps: dict[uuid.UUID, int],
        now: datetime,
        scopes: set[str],
    ) -> None:
        month = now.date().replace(day=1)
        rows = [(subject, month) for subject in sorted(caps)]
        draws: list[tuple[Grant, int]] = []
        need = amount
        if amount:
            for row in rows:
                if self.spent.get(row, 0) + self.reserved.get(row, 0) + amount > caps[row[0]]:
                    raise Refused(row[0])
            for grant in self.usable(now, scopes):
                if part := min(need, grant.remaining - grant.held):
                    draws.append((grant, part))
                    need -= part
        if need and need > self.available:
            raise Refused("funds")
        for grant, part in draws:
            grant.held += part
        for row in rows:
            self.reserved[row] = self.reserved.get(row, 0) + amount
        self.holds[source] = Hold(amount, need, draws, rows)

    def settle(self, source: uuid.UUID, amount: int) -> Paid:
        hold = self.holds.pop(source)
        left, grants = amount, []
        for grant, held in hold.draws:
            part = min(held, left)
            grant.held -= held
            grant.remaining -= part
            left -= part
            if part:
                grants.append((grant.id, part))
        prepaid = min(self.prepaid, left)
        self.prepaid -= prepaid
        self.owed += left - prepaid
        for row in hold.caps:
            self.reserved[row] -= hold.amount
            self.spent[row] = self.spent.get(row, 0) + amount
        return Paid(grants, prepaid, left - prepaid)

    def expire(self, now: datetime) -> int:
        """Take back what is due. Returns how many grants that touched."""
        due = [
            grant
            for grant in self.grants
            if grant.expires_at and grant.expires_at <= now and grant.remaining > grant.held
        ]
        for grant in due:
            grant.remaining = grant.held
        return len(due)
