"""Money out: vendors' accounts (Connect, accounts v2), transfers, reversals, our balance.

On doubt about a transfer (GatewayUnavailable), look with `transfers_list(statement_id)` before
a new `attempt`: never release what is owed on an ambiguous error.
"""

from __future__ import annotations

from typing import Any, cast

from billing.stripe.client import Connection
from billing.stripe.errors import translated
from billing.stripe.records import plain
from billing.stripe.records_connect import (
    Balance,
    Payout,
    Reversal,
    Transfer,
    VendorAccount,
)

_PAGE = 100


class ConnectCalls(Connection):
    """What is asked of Stripe about vendors. All raise GatewayUnavailable or GatewayRefused."""

    def vendor_account_create(
        self, org_id: str, *, name: str, email: str, country: str, attempt: int = 0
    ) -> str:
        """Return the id of a new account that can receive transfers once it is onboarded.

        `country` is ISO 3166-1 alpha-2, lower or upper case, and cannot be changed later.
        Stripe shows the vendor its Express dashboard; fees and losses are the platform's.
        """
        with translated():
            made = self._client.v2.core.accounts.create(
                cast(
                    "Any",
                    {
                        "display_name": name,
                        "contact_email": email,
                        "dashboard": "express",
                        "identity": {"country": country.lower()},
                        "configuration": {
                            "recipient": {
                                "capabilities": {
                                    "stripe_balance": {"stripe_transfers": {"requested": True}}
                                }
                            }
                        },
                        "defaults": {
                            "responsibilities": {
                                "fees_collector": "application",
                                "losses_collector": "application",
                            }
                        },
                        "metadata": {"org_id": org_id},
                    },
                ),
                {"idempotency_key": f"account:{org_id}:{attempt}"},
            )
        return made.id

    def vendor_account_retrieve(self, account_id: str) -> VendorAccount:
        """Return an account: whether it can be paid and what Stripe still wants from it."""
        with translated():
            found = self._client.v2.core.accounts.retrieve(
                account_id,
                {"include": ["configuration.recipient", "identity", "requirements"]},
            )
        return VendorAccount.of(plain(found))

    def vendor_account_link(self, account_id: str, *, refresh_url: str, return_url: str) -> str:
        """Return a page, good once and for minutes, on which the vendor tells Stripe who it is.

        Coming back to `return_url` does not mean that all was told: retrieve the account.
        """
        with translated():
            made = self._client.v2.core.account_links.create(
                {
                    "account": account_id,
                    "use_case": {
                        "type": "account_onboarding",
                        "account_onboarding": {
                            "refresh_url": refresh_url,
                            "return_url": return_url,
                        },
                    },
                }
            )
        return made.url

    def transfer_create(
        self,
        account_id: str,
        *,
        amount: int,
        statement_id: str,
        description: str = "",
        source_charge: str = "",
        attempt: int = 0,
    ) -> Transfer:
        """Move `amount` cents to a vendor for one statement.

        The statement is the transfer group and, with `attempt`, the Idempotency-Key. Raises
        BalanceInsufficient above the available balance; `source_charge` lets it wait for the
        money of one charge instead.
        """
        params: dict[str, Any] = {
            "amount": amount,
            "currency": "usd",
            "destination": account_id,
            "transfer_group": statement_id,
            "metadata": {"mercato_id": statement_id},
        }
        params |= {"description": description} if description else {}
        params |= {"source_transaction": source_charge} if source_charge else {}
        with translated():
            made = self._client.v1.transfers.create(
                cast("Any", params), {"idempotency_key": f"transfer:{statement_id}:{attempt}"}
            )
        return Transfer.of(plain(made))

    def transfer_retrieve(self, transfer_id: str) -> Transfer:
        """Return a transfer as it is now."""
        with translated():
            return Transfer.of(plain(self._client.v1.transfers.retrieve(transfer_id)))

    def transfers_list(self, statement_id: str) -> tuple[Transfer, ...]:
        """Return the transfers of a statement: none, or one if all went well."""
        with translated():
            page = self._client.v1.transfers.list({"transfer_group": statement_id, "limit": _PAGE})
            return tuple(Transfer.of(plain(row)) for row in page.auto_paging_iter())

    def transfer_reverse(
        self, transfer_id: str, *, amount: int, reversal_id: str, attempt: int = 0
    ) -> Reversal:
        """Take `amount` cents of a transfer back; part of it may be taken, several times.

        On doubt look with `transfer_reversals_list` for the `mercato_id` before a new `attempt`.
        """
        with translated():
            made = self._client.v1.transfers.reversals.create(
                transfer_id,
                {"amount": amount, "metadata": {"mercato_id": reversal_id}},
                {"idempotency_key": f"reversal:{reversal_id}:{attempt}"},
            )
        return Reversal.of(plain(made))

    def transfer_reversals_list(self, transfer_id: str) -> tuple[Reversal, ...]:
        """Return what was taken back of a transfer, newest first."""
        with translated():
            page = self._client.v1.transfers.reversals.list(transfer_id, {"limit": _PAGE})
            return tuple(Reversal.of(plain(row)) for row in page.auto_paging_iter())

    def balance_retrieve(self, currency: str = "usd") -> Balance:
        """Return the platform's balance in one currency."""
        with translated():
            raw = plain(self._client.v1.balance.retrieve())

        def total(part: str) -> int:
            return sum(row["amount"] for row in raw[part] if row["currency"] == currency)

        return Balance(currency, available=total("available"), pending=total("pending"))

    def payout_retrieve(self, payout_id: str, account_id: str) -> Payout:
        """Return a payout of a vendor's account to its bank."""
        with translated():
            found = self._client.v1.payouts.retrieve(
                payout_id, options={"stripe_account": account_id}
            )
        return Payout.of(plain(found))
