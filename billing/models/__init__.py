"""Tables of money: an append-only ledger, and what is derived from it or leads to it."""

from billing.models.charges import Charge, Funding, MeterBatch, Refund, RefundReason
from billing.models.incidents import Incident, SpendAlert
from billing.models.invoices import (
    CreditNote,
    Invoice,
    InvoiceLine,
    InvoiceStatus,
    NumberSequence,
    SharesFate,
)
from billing.models.ledger import Account, AccountKind, Transfer, TransferKind
from billing.models.meter_hours import MeterHour
from billing.models.payments import (
    BillingProfile,
    Dispute,
    DisputeState,
    ReturnState,
    StripeEvent,
    TopUp,
    TopUpReturn,
    TopUpState,
)
from billing.models.vendors import (
    NO_VERSION,
    Payout,
    PayoutAccount,
    PayoutState,
    Statement,
    StatementEntry,
    StatementLine,
    StatementStatus,
)
from billing.models.wallets import Draw, Grant, Hold, HoldState, SpendCap, Wallet, WalletShard

__all__ = [
    "NO_VERSION",
    "Account",
    "AccountKind",
    "BillingProfile",
    "Charge",
    "CreditNote",
    "Dispute",
    "DisputeState",
    "Draw",
    "Funding",
    "Grant",
    "Hold",
    "HoldState",
    "Incident",
    "Invoice",
    "InvoiceLine",
    "InvoiceStatus",
    "MeterBatch",
    "MeterHour",
    "NumberSequence",
    "Payout",
    "PayoutAccount",
    "PayoutState",
    "Refund",
    "RefundReason",
    "ReturnState",
    "SharesFate",
    "SpendAlert",
    "SpendCap",
    "Statement",
    "StatementEntry",
    "StatementLine",
    "StatementStatus",
    "StripeEvent",
    "TopUp",
    "TopUpReturn",
    "TopUpState",
    "Transfer",
    "TransferKind",
    "Wallet",
    "WalletShard",
]
