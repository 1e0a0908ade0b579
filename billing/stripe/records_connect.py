"""Records of the vendors' side: accounts, transfers, payouts, disputes. Units as in `records`."""

from __future__ import annotations

from dataclasses import dataclass, field

from billing.stripe.records import Json, id_of


@dataclass(frozen=True, slots=True)
class VendorAccount:
    """A vendor's connected account.

    `transfers`: the state of the capability to receive transfers: active, pending, restricted
    or unsupported, empty when it was never asked for. `requirements` is what Stripe still
    wants, in its words; `deadline` how urgent: "", eventually_due, currently_due or past_due.
    """

    id: str
    transfers: str
    payouts: str
    requirements: tuple[str, ...]
    deadline: str
    country: str
    closed: bool
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def can_be_paid(self) -> bool:
        """Whether a transfer to the account is allowed now."""
        return self.transfers == "active" and not self.closed

    @classmethod
    def of(cls, raw: Json) -> VendorAccount:
        """Read Stripe's `v2.core.account`, asked for with configuration and requirements."""
        recipient = (raw.get("configuration") or {}).get("recipient") or {}
        balance = (recipient.get("capabilities") or {}).get("stripe_balance") or {}
        wanted = raw.get("requirements") or {}
        summary = (wanted.get("summary") or {}).get("minimum_deadline") or {}
        return cls(
            id=raw["id"],
            transfers=(balance.get("stripe_transfers") or {}).get("status") or "",
            payouts=(balance.get("payouts") or {}).get("status") or "",
            requirements=tuple(row["description"] for row in wanted.get("entries") or ()),
            deadline=summary.get("status") or "",
            country=(raw.get("identity") or {}).get("country") or "",
            closed=bool(raw.get("closed")),
            metadata=raw.get("metadata") or {},
        )


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money moved to a vendor's account. `group` is the statement that it pays."""

    id: str
    amount: int
    amount_reversed: int
    currency: str
    destination: str
    group: str
    created: int
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Json) -> Transfer:
        """Read Stripe's `transfer`."""
        return cls(
            id=raw["id"],
            amount=raw["amount"],
            amount_reversed=raw["amount_reversed"],
            currency=raw["currency"],
            destination=id_of(raw.get("destination")),
            group=raw.get("transfer_group") or "",
            created=raw["created"],
            metadata=raw.get("metadata") or {},
        )


@dataclass(frozen=True, slots=True)
class Reversal:
    """Money taken back from a transfer."""

    id: str
    amount: int
    transfer: str
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Json) -> Reversal:
        """Read Stripe's `transfer_reversal`."""
        return cls(
            id=raw["id"],
            amount=raw["amount"],
            transfer=id_of(raw["transfer"]),
            metadata=raw.get("metadata") or {},
        )


@dataclass(frozen=True, slots=True)
class Balance:
    """The platform's money at Stripe in one currency, in cents; either may be negative."""

    currency: str
    available: int
    pending: int


@dataclass(frozen=True, slots=True)
class BalanceTransaction:
    """One movement of the platform's balance: `net` = `amount` − `fee` (Stripe's own)."""

    id: str
    type: str
    amount: int
    fee: int
    net: int
    currency: str
    available_on: int

    @classmethod
    def of(cls, raw: Json) -> BalanceTransaction:
        """Read Stripe's `balance_transaction`."""
        return cls(
            id=raw["id"],
            type=raw["type"],
            amount=raw["amount"],
            fee=raw["fee"],
            net=raw["net"],
            currency=raw["currency"],
            available_on=raw["available_on"],
        )


@dataclass(frozen=True, slots=True)
class Payout:
    """Money on its way from an account to its bank. `status`: paid, pending, failed, …"""

    id: str
    amount: int
    currency: str
    status: str
    failure_code: str
    failure_message: str

    @classmethod
    def of(cls, raw: Json) -> Payout:
        """Read Stripe's `payout`."""
        return cls(
            id=raw["id"],
            amount=raw["amount"],
            currency=raw["currency"],
            status=raw["status"],
            failure_code=raw.get("failure_code") or "",
            failure_message=raw.get("failure_message") or "",
        )


@dataclass(frozen=True, slots=True)
class Dispute:
    """A payment that its owner's bank took back. `status`: needs_response, won, lost, …"""

    id: str
    amount: int
    currency: str
    status: str
    reason: str
    charge: str
    payment_intent: str

    @classmethod
    def of(cls, raw: Json) -> Dispute:
        """Read Stripe's `dispute`."""
        return cls(
            id=raw["id"],
            amount=raw["amount"],
            currency=raw["currency"],
            status=raw["status"],
            reason=raw["reason"],
            charge=id_of(raw["charge"]),
            payment_intent=id_of(raw.get("payment_intent")),
        )
