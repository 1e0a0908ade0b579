"""Customers: made once per organisation, with their address and tax ids kept up to date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from billing.stripe.client import Connection
from billing.stripe.errors import translated
from billing.stripe.records import PaymentMethod, TaxId, plain

_PAGE = 100


class CustomerCalls(Connection):
    """What is asked of Stripe about customers. All raise GatewayUnavailable or GatewayRefused."""

    def customer_ensure(self, org_id: str, name: str, email: str, *, attempt: int = 0) -> str:
        """Return the Stripe customer of an organisation; the caller stores it and asks no more.

        Creation carries an Idempotency-Key made of `org_id` and always the same parameters, so
        a repeat within 24 hours returns the same customer; name and e-mail are then set by an
        update. Stripe replays even a 500 under a key: after one, pass the next `attempt`.
        """
        with translated():
            customer = self._client.v1.customers.create(
                {"metadata": {"org_id": org_id}},
                {"idempotency_key": f"customer:{org_id}:{attempt}"},
            )
            self._client.v1.customers.update(customer.id, {"name": name, "email": email})
        return customer.id

    def customer_update(
        self,
        customer_id: str,
        *,
        name: str | None = None,
        email: str | None = None,
        address: Mapping[str, str] | None = None,
    ) -> None:
        """Set what is given. `address`: line1, line2, city, state, postal_code, country (ISO)."""
        params: dict[str, Any] = {"name": name, "email": email}
        params = {key: value for key, value in params.items() if value is not None}
        if address is not None:
            params["address"] = dict(address)
        with translated():
            self._client.v1.customers.update(customer_id, cast("Any", params))

    def customer_tax_ids(self, customer_id: str) -> tuple[TaxId, ...]:
        """Return the customer's tax ids as Stripe has them, with the state of verification."""
        with translated():
            page = self._client.v1.customers.tax_ids.list(customer_id, {"limit": _PAGE})
            return tuple(TaxId.of(plain(row)) for row in page.auto_paging_iter())

    def customer_tax_ids_set(self, customer_id: str, tax_ids: Mapping[str, str]) -> None:
        """Make `tax_ids` (type such as `eu_vat` → value) all that the customer has.

        Repeating it changes nothing.
        """
        wanted = set(tax_ids.items())
        for known in self.customer_tax_ids(customer_id):
            if (known.type, known.value) in wanted:
                wanted.discard((known.type, known.value))
                continue
            with translated():
                self._client.v1.customers.tax_ids.delete(customer_id, known.id)
        for type_, value in sorted(wanted):
            with translated():
                self._client.v1.customers.tax_ids.create(
                    customer_id, cast("Any", {"type": type_, "value": value})
                )

    def payment_methods_list(self, customer_id: str) -> tuple[PaymentMethod, ...]:
        """Return the customer's saved payment methods, newest first."""
        with translated():
            page = self._client.v1.customers.payment_methods.list(customer_id, {"limit": _PAGE})
            return tuple(PaymentMethod.of(plain(row)) for row in page.auto_paging_iter())

    def payment_method_detach(self, payment_method: str) -> None:
        """Have Stripe forget a saved payment method, also as the default, for good.

        Raises GatewayRefused if it is nobody's any more.
        """
        with translated():
            self._client.v1.payment_methods.detach(payment_method)

    def payment_method_default_set(self, customer_id: str, payment_method: str) -> None:
        """Have invoices of the customer be paid with `payment_method` from now on."""
        with translated():
            self._client.v1.customers.update(
                customer_id, {"invoice_settings": {"default_payment_method": payment_method}}
            )
