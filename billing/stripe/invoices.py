"""Invoices and credit notes: held back, described, finalized by us, corrected afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

from billing.stripe.client import Connection
from billing.stripe.errors import GatewayRefused, translated
from billing.stripe.records import CreditNote, Invoice, InvoiceLine, id_of, plain

Settle = Literal["refund", "balance", "out_of_band"]
"""Where the money of a credit note on a paid invoice goes: the card, the next invoice, or us."""
_SETTLE_FIELD: dict[Settle, str] = {
    "refund": "refund_amount",
    "balance": "credit_amount",
    "out_of_band": "out_of_band_amount",
}
_PAGE = 100


class InvoiceCalls(Connection):
    """What is asked of Stripe about invoices.

    All raise GatewayUnavailable or GatewayRefused. Calls that change a state (`hold`,
    `finalize`, `pay`, `void`) can be repeated: they look at the invoice when Stripe refuses.
    """

    def invoice_retrieve(self, invoice_id: str) -> Invoice:
        """Return an invoice as it is now, with its first lines."""
        with translated():
            return Invoice.of(plain(self._client.v1.invoices.retrieve(invoice_id)))

    def invoice_lines(self, invoice_id: str) -> tuple[InvoiceLine, ...]:
        """Return all lines of an invoice, for one whose `lines_complete` is false."""
        with translated():
            page = self._client.v1.invoices.line_items.list(invoice_id, {"limit": _PAGE})
            return tuple(InvoiceLine.of(plain(row)) for row in page.auto_paging_iter())

    def invoices_list(
        self,
        customer_id: str,
        *,
        created_from: int | None = None,
        created_before: int | None = None,
        subscription_id: str = "",
        status: str = "",
    ) -> tuple[Invoice, ...]:
        """Return a customer's invoices, newest first, made in [from, before), epoch seconds.

        The invoice of a period is made at its end, so the one of October is made on 1 November.
        """
        params: dict[str, Any] = {"customer": customer_id, "limit": _PAGE}
        created = {"gte": created_from, "lt": created_before}
        if created := {key: at for key, at in created.items() if at is not None}:
            params["created"] = created
        params |= {"subscription": subscription_id} if subscription_id else {}
        params |= {"status": status} if status else {}
        with translated():
            page = self._client.v1.invoices.list(cast("Any", params))
            return tuple(Invoice.of(plain(row)) for row in page.auto_paging_iter())

    def drafts_list(self, *, created_from: int) -> Iterator[Invoice]:
        """Yield all customers' drafts made at or after an epoch second, newest first."""
        with translated():
            page = self._client.v1.invoices.list(
                {"status": "draft", "created": {"gte": created_from}, "limit": _PAGE}
            )
            for row in page.auto_paging_iter():
                yield Invoice.of(plain(row))

    def invoice_preview(self, subscription_id: str) -> Invoice:
        """Return the invoice that the subscription's running period would get now."""
        with translated():
            found = self._client.v1.invoices.create_preview({"subscription": subscription_id})
        return Invoice.of(plain(found))

    def invoice_hold(self, invoice_id: str) -> Invoice:
        """Keep Stripe from finalizing a draft by itself (`auto_advance=false`)."""
        return self._invoice_settle(
            invoice_id,
            lambda: self._client.v1.invoices.update(invoice_id, {"auto_advance": False}),
            done=lambda invoice: invoice.status != "draft",
        )

    def invoice_describe(
        self,
        invoice_id: str,
        *,
        description: str | None = None,
        footer: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Invoice:
        """Set what is given; metadata is merged, an empty value removes its key."""
        params: dict[str, Any] = {"description": description, "footer": footer}
        params = {key: text for key, text in params.items() if text is not None}
        if metadata is not None:
            params["metadata"] = dict(metadata)
        with translated():
            return Invoice.of(
                plain(self._client.v1.invoices.update(invoice_id, cast("Any", params)))
            )

    def invoice_item_create(
        self,
        customer_id: str,
        invoice_id: str,
        *,
        amount: int,
        description: str,
        item_id: str,
        attempt: int = 0,
    ) -> str:
        """Add a line of `amount` cents (negative to take off) to a draft. Returns its id.

        `item_id` is the caller's derived id; it is also in the metadata as `mercato_id`. After
        a 5xx look at the draft's lines before the next `attempt`.
        """
        with translated():
            item = self._client.v1.invoice_items.create(
                {
                    "customer": customer_id,
                    "invoice": invoice_id,
                    "amount": amount,
                    "currency": "usd",
                    "description": description,
                    "tax_behavior": "exclusive",
                    "metadata": {"mercato_id": item_id},
                },
                {"idempotency_key": f"invoice_item:{item_id}:{attempt}"},
            )
        return item.id

    def invoice_finalize(self, invoice_id: str, *, collect: bool = True) -> Invoice:
        """Make a draft final: it gets its number and can be changed by credit notes only.

        With `collect` Stripe then charges the default payment method, or mails the bill.
        """
        return self._invoice_settle(
            invoice_id,
            lambda: self._client.v1.invoices.finalize_invoice(
                invoice_id, {"auto_advance": collect}
            ),
            done=lambda invoice: invoice.status != "draft",
        )

    def invoice_pay(
        self, invoice_id: str, *, payment_method: str = "", paid_out_of_band: bool = False
    ) -> Invoice:
        """Try to collect an open invoice now, or note that it was paid elsewhere.

        Raises PaymentDeclined too.
        """
        params: dict[str, Any] = {}
        params |= {"payment_method": payment_method} if payment_method else {}
        params |= {"paid_out_of_band": True} if paid_out_of_band else {"off_session": True}
        return self._invoice_settle(
            invoice_id,
            lambda: self._client.v1.invoices.pay(invoice_id, cast("Any", params)),
            done=lambda invoice: invoice.status == "paid",
        )

    def invoice_payments(self, invoice_id: str) -> tuple[str, ...]:
        """Return the PaymentIntents that paid an invoice, newest first."""
        with translated():
            page = self._client.v1.invoice_payments.list(
                {"invoice": invoice_id, "status": "paid", "limit": _PAGE}
            )
            rows = [plain(row)["payment"] for row in page.auto_paging_iter()]
        return tuple(id_of(row.get("payment_intent")) for row in rows if "payment_intent" in row)

    def invoice_void(self, invoice_id: str) -> Invoice:
        """Declare an open invoice void: nothing is owed for it."""
        return self._invoice_settle(
            invoice_id,
            lambda: self._client.v1.invoices.void_invoice(invoice_id),
            done=lambda invoice: invoice.status == "void",
        )

    def _invoice_settle(self, invoice_id: str, act: Any, *, done: Any) -> Invoice:
        """Run `act`; if Stripe refuses because it was done before, return the invoice."""
        try:
            with translated():
                return Invoice.of(plain(act()))
        except GatewayRefused:
            invoice = self.invoice_retrieve(invoice_id)
            if done(invoice):
                return invoice
            raise

    def credit_note_create(
        self,
        invoice_id: str,
        *,
        amount: int,
        note_id: str,
        settle: Settle = "balance",
        reason: str = "",
        memo: str = "",
        attempt: int = 0,
    ) -> CreditNote:
        """Correct a finalized invoice by `amount` cents, tax included.

        On an open invoice it lowers what is still owed; on a paid one the money goes where
        `settle` says. `reason`: duplicate, fraudulent, order_change, product_unsatisfactory.
        `note_id` is the caller's derived id, kept in the metadata as `mercato_id`. After a 5xx
        look with `credit_notes_list` before the next `attempt`.
        """
        params = self._credit_note_params(invoice_id, amount, settle, reason)
        params |= {"memo": memo} if memo else {}
        params["metadata"] = {"mercato_id": note_id}
        with translated():
            made = self._client.v1.credit_notes.create(
                cast("Any", params), {"idempotency_key": f"credit_note:{note_id}:{attempt}"}
            )
        return CreditNote.of(plain(made))

    def credit_notes_list(self, invoice_id: str) -> tuple[CreditNote, ...]:
        """Return the credit notes of an invoice, newest first."""
        with translated():
            page = self._client.v1.credit_notes.list({"invoice": invoice_id, "limit": _PAGE})
            return tuple(CreditNote.of(plain(row)) for row in page.auto_paging_iter())

    def _credit_note_params(
        self, invoice_id: str, amount: int, settle: Settle, reason: str
    ) -> dict[str, Any]:
        params: dict[str, Any] = {"invoice": invoice_id, "amount": amount}
        if self.invoice_retrieve(invoice_id).status == "paid":
            params[_SETTLE_FIELD[settle]] = amount
        return params | ({"reason": reason} if reason else {})
