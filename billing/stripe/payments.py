"""Money in: top-ups on Stripe's page, automatic recharges, saved cards, refunds, disputes.

Each call that makes something takes the caller's own derived id and puts it into the metadata
(`mercato_id`) and into the Idempotency-Key, with `attempt`. After GatewayUnavailable, repeat
with the same `attempt`; if it was a stored 5xx (`is_stored`), first look with the `…_find` call
whether the thing was made, and only then take the next `attempt`.
"""

from __future__ import annotations

from typing import Any, cast

from billing.stripe.client import Connection
from billing.stripe.errors import translated
from billing.stripe.records import (
    Charge,
    CheckoutSession,
    PaymentIntent,
    Refund,
    SetupIntent,
    plain,
)
from billing.stripe.records_connect import BalanceTransaction, Dispute

_PAGE = 100


class PaymentCalls(Connection):
    """What is asked of Stripe about payments. All raise GatewayUnavailable or GatewayRefused."""

    def checkout_topup_create(
        self,
        customer_id: str,
        *,
        amount: int,
        org_id: str,
        topup_id: str,
        success_url: str,
        cancel_url: str,
        description: str = "Prepaid credit",
        automatic_tax: bool = False,
        save_card: bool = False,
        attempt: int = 0,
    ) -> CheckoutSession:
        """Return a page on which the customer pays `amount` cents of credit (plus tax, if on).

        `save_card` keeps the card for automatic recharges. The session and its payment carry
        `org_id` and `topup_id` in their metadata. It expires after 24 hours.
        """
        metadata = {"org_id": org_id, "mercato_id": topup_id, "purpose": "topup"}
        payment: dict[str, Any] = {"metadata": metadata, "description": description}
        payment |= {"setup_future_usage": "off_session"} if save_card else {}
        params: dict[str, Any] = {
            "mode": "payment",
            "customer": customer_id,
            "client_reference_id": topup_id,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": amount,
                        "tax_behavior": "exclusive",
                        "product_data": {"name": description},
                    },
                }
            ],
            "payment_intent_data": payment,
            "metadata": metadata,
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        if automatic_tax:
            params["automatic_tax"] = {"enabled": True}
            params["customer_update"] = {"address": "auto"}
        with translated():
            made = self._client.v1.checkout.sessions.create(
                cast("Any", params), {"idempotency_key": f"topup:{topup_id}:{attempt}"}
            )
        return CheckoutSession.of(plain(made))

    def checkout_setup_create(
        self,
        customer_id: str,
        *,
        org_id: str,
        setup_id: str,
        success_url: str,
        cancel_url: str,
        attempt: int = 0,
    ) -> CheckoutSession:
        """Return a page on which the customer saves a card; nothing is charged."""
        metadata = {"org_id": org_id, "mercato_id": setup_id, "purpose": "setup"}
        with translated():
            made = self._client.v1.checkout.sessions.create(
                {
                    "mode": "setup",
                    "customer": customer_id,
                    "currency": "usd",
                    "metadata": metadata,
                    "setup_intent_data": {"metadata": metadata},
                    "success_url": success_url,
                    "cancel_url": cancel_url,
                },
                {"idempotency_key": f"setup:{setup_id}:{attempt}"},
            )
        return CheckoutSession.of(plain(made))

    def checkout_session_retrieve(self, session_id: str) -> CheckoutSession:
        """Return a session as it is now."""
        with translated():
            return CheckoutSession.of(plain(self._client.v1.checkout.sessions.retrieve(session_id)))

    def checkout_session_find(self, customer_id: str, own_id: str) -> CheckoutSession | None:
        """Return the customer's session that was made for `topup_id` or `setup_id`, if any."""
        with translated():
            page = self._client.v1.checkout.sessions.list({"customer": customer_id, "limit": _PAGE})
            for row in page.auto_paging_iter():
                if (found := CheckoutSession.of(plain(row))).metadata.get("mercato_id") == own_id:
                    return found
        return None

    def payment_off_session(
        self,
        customer_id: str,
        payment_method: str,
        *,
        amount: int,
        org_id: str,
        topup_id: str,
        description: str = "Prepaid credit, automatic recharge",
        attempt: int = 0,
    ) -> PaymentIntent:
        """Charge `amount` cents to a saved card while the customer is away.

        Raises PaymentDeclined with the reason, after which Stripe keeps that answer under this
        `attempt`; a later try is a new top-up with an id of its own.
        """
        metadata = {"org_id": org_id, "mercato_id": topup_id, "purpose": "recharge"}
        with translated():
            made = self._client.v1.payment_intents.create(
                {
                    "amount": amount,
                    "currency": "usd",
                    "customer": customer_id,
                    "payment_method": payment_method,
                    "off_session": True,
                    "confirm": True,
                    "description": description,
                    "metadata": metadata,
                },
                {"idempotency_key": f"recharge:{topup_id}:{attempt}"},
            )
        return PaymentIntent.of(plain(made))

    def payment_intent_retrieve(self, payment_intent_id: str) -> PaymentIntent:
        """Return a payment as it is now."""
        with translated():
            return PaymentIntent.of(
                plain(self._client.v1.payment_intents.retrieve(payment_intent_id))
            )

    def payment_intents_list(
        self, customer_id: str, *, created_from: int | None = None
    ) -> tuple[PaymentIntent, ...]:
        """Return a customer's payments, newest first, made at or after `created_from`."""
        params: dict[str, Any] = {"customer": customer_id, "limit": _PAGE}
        params |= {"created": {"gte": created_from}} if created_from is not None else {}
        with translated():
            page = self._client.v1.payment_intents.list(cast("Any", params))
            return tuple(PaymentIntent.of(plain(row)) for row in page.auto_paging_iter())

    def payment_intent_find(self, customer_id: str, topup_id: str) -> PaymentIntent | None:
        """Return the customer's newest payment for `topup_id`, if there is one."""
        found = self.payment_intents_list(customer_id)
        return next((row for row in found if row.metadata.get("mercato_id") == topup_id), None)

    def setup_intent_retrieve(self, setup_intent_id: str) -> SetupIntent:
        """Return a SetupIntent as it is now."""
        with translated():
            return SetupIntent.of(plain(self._client.v1.setup_intents.retrieve(setup_intent_id)))

    def refund_create(
        self,
        payment_intent_id: str,
        *,
        amount: int,
        refund_id: str,
        reason: str = "requested_by_customer",
        attempt: int = 0,
    ) -> Refund:
        """Give `amount` cents of a payment back. It does not reverse any transfer to a vendor."""
        params: dict[str, Any] = {
            "payment_intent": payment_intent_id,
            "amount": amount,
            "reason": reason,
            "metadata": {"mercato_id": refund_id},
        }
        with translated():
            made = self._client.v1.refunds.create(
                cast("Any", params), {"idempotency_key": f"refund:{refund_id}:{attempt}"}
            )
        return Refund.of(plain(made))

    def refund_retrieve(self, refund_id: str) -> Refund:
        """Return a refund by Stripe's id."""
        with translated():
            return Refund.of(plain(self._client.v1.refunds.retrieve(refund_id)))

    def refunds_list(self, payment_intent_id: str) -> tuple[Refund, ...]:
        """Return the refunds of a payment, newest first."""
        with translated():
            page = self._client.v1.refunds.list(
                {"payment_intent": payment_intent_id, "limit": _PAGE}
            )
            return tuple(Refund.of(plain(row)) for row in page.auto_paging_iter())

    def refund_find(self, payment_intent_id: str, refund_id: str) -> Refund | None:
        """Return the refund that was made for the caller's `refund_id`, if there is one."""
        found = self.refunds_list(payment_intent_id)
        return next((row for row in found if row.metadata.get("mercato_id") == refund_id), None)

    def charge_retrieve(self, charge_id: str) -> Charge:
        """Return the charge behind a payment (`PaymentIntent.latest_charge`)."""
        with translated():
            return Charge.of(plain(self._client.v1.charges.retrieve(charge_id)))

    def balance_transaction_retrieve(self, transaction_id: str) -> BalanceTransaction:
        """Return a movement of our balance: Stripe's fee on a charge is in it."""
        with translated():
            return BalanceTransaction.of(
                plain(self._client.v1.balance_transactions.retrieve(transaction_id))
            )

    def dispute_retrieve(self, dispute_id: str) -> Dispute:
        """Return a dispute as it is now."""
        with translated():
            return Dispute.of(plain(self._client.v1.disputes.retrieve(dispute_id)))
