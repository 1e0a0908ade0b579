"""Invoices, their items and credit notes over the API."""

from __future__ import annotations

from marketplace.local.stripe_standin import charging, invoicing
from marketplace.local.stripe_standin.calls import (
    Body,
    Call,
    list_objects,
    merge_metadata,
    paginate,
    refuse_unsupported,
)
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.work import Work


def _not_draft(invoice: Body) -> ApiError:
    return ApiError(
        f"This invoice is already finalized ({invoice['status']}), you can't modify it.",
        code="invoice_not_editable",
        stored=True,
    )


def _shown(work: Work, invoice: Body) -> Body:
    """Return an invoice as it is now: a draft counts its usage anew."""
    if invoice["status"] == "draft":
        invoicing.refresh(work, invoice)
    return invoice


def create(call: Call) -> Body:
    """POST /v1/invoices: an empty draft of a customer, of no subscription."""
    work, params = call.work, call.params
    refuse_unsupported(
        set(params)
        - {
            "auto_advance", "automatic_tax", "collection_method", "currency", "customer",
            "days_until_due", "description", "expand", "metadata",
            "pending_invoice_items_behavior",
        }
    )  # fmt: skip
    if params.get("pending_invoice_items_behavior", "exclude") != "exclude":
        refuse_unsupported({"pending_invoice_items_behavior"})
    customer = work.get("customer", params.get("customer", ""), "customer")
    taxed = params.get("automatic_tax", {}).get("enabled", False)
    if taxed:
        invoicing.require_location(customer)
    method = params.get("collection_method", "charge_automatically")
    if (method == "send_invoice") != ("days_until_due" in params):
        raise ApiError(
            "days_until_due goes with collection_method=send_invoice, and only with it.",
            param="days_until_due",
        )
    now, advances = work.now(), params.get("auto_advance", False)
    due = now + params["days_until_due"] * 86400 if method == "send_invoice" else None
    invoice = invoicing.blank(
        work,
        customer,
        params.get("currency", "usd"),
        auto_advance=advances,
        automatic_tax=invoicing.tax_state(enabled=taxed),
        automatically_finalizes_at=now + invoicing.DRAFT_S if advances else None,
        collection_method=method,
        description=params.get("description"),
        due_date=due,
        metadata=merge_metadata({}, params),
    )
    work.put(invoice)
    work.emit("invoice.created", invoice)
    return invoice


def retrieve(call: Call) -> Body:
    """GET /v1/invoices/{invoice}."""
    return _shown(call.work, call.work.get("invoice", call.path_params["invoice"]))


def list_(call: Call) -> Body:
    """GET /v1/invoices, by `customer`, `subscription`, `status`, `created`."""
    refuse_unsupported(set(call.params) & {"collection_method", "customer_account", "due_date"})
    wanted = call.params.get("subscription")

    def fits(row: Body) -> bool:
        parent = (row["parent"] or {}).get("subscription_details") or {}
        return wanted is None or parent.get("subscription") == wanted

    page = list_objects(call, "invoice", "invoice", equal=("customer", "status"), extra=fits)
    rows = [_shown(call.work, call.work.get("invoice", row["id"])) for row in page["data"]]
    return {**page, "data": rows}


def lines(call: Call) -> Body:
    """GET /v1/invoices/{invoice}/lines."""
    invoice = _shown(call.work, call.work.get("invoice", call.path_params["invoice"]))
    return paginate(invoice["lines"]["data"], call.params, url=call.path, word="line_item")


def preview(call: Call) -> Body:
    """POST /v1/invoices/create_preview of a subscription's running period."""
    refuse_unsupported(set(call.params) - {"customer", "expand", "subscription"})
    subscription = call.work.get(
        "subscription", call.params.get("subscription", ""), "subscription"
    )
    item = subscription["items"]["data"][0]
    period = (item["current_period_start"], item["current_period_end"])
    invoice = invoicing.of_subscription(call.work, subscription, period, reason="upcoming")
    invoice["id"] = f"upcoming_{invoice['id']}"
    return invoice


def update(call: Call) -> Body:
    """POST /v1/invoices/{invoice}: texts and metadata, and `auto_advance` of a draft."""
    work, params = call.work, call.params
    refuse_unsupported(
        set(params)
        - {"auto_advance", "default_payment_method", "description", "expand", "footer", "metadata"}
    )
    invoice = work.get("invoice", call.path_params["invoice"])
    is_draft = invoice["status"] == "draft"
    if not is_draft and set(params) - {"metadata", "expand"}:
        raise _not_draft(invoice)
    for name in ("auto_advance", "default_payment_method", "description", "footer"):
        if name in params:
            invoice[name] = params[name] if name == "auto_advance" else params[name] or None
    if is_draft and "auto_advance" in params:
        at = work.now() + invoicing.DRAFT_S if params["auto_advance"] else None
        invoice["automatically_finalizes_at"] = at
    invoice["metadata"] = merge_metadata(invoice["metadata"], params)
    if is_draft:
        invoicing.refresh(work, invoice)
    work.put(invoice)
    work.emit("invoice.updated", invoice)
    return invoice


def _line_of_item(work: Work, item: Body) -> Body:
    """Return the line that shows an item on its invoice."""
    period = (item["period"]["start"], item["period"]["end"])
    return {
        **invoicing.line_item(work, item["invoice"], item["currency"], period),
        "amount": item["amount"],
        "description": item["description"],
        "metadata": item["metadata"],
        "parent": {
            "invoice_item_details": {
                "invoice_item": item["id"],
                "proration": False,
                "proration_details": None,
                "subscription": None,
            },
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        "subtotal": item["amount"],
    }


def item_create(call: Call) -> Body:
    """POST /v1/invoiceitems: a line of so many cents on a draft."""
    work, params = call.work, call.params
    refuse_unsupported(
        set(params)
        - {
            "amount", "currency", "customer", "description", "expand", "invoice", "metadata",
            "tax_behavior",
        }
    )  # fmt: skip
    for name in ("amount", "currency", "customer", "invoice"):
        if name not in params:
            raise ApiError(
                f"The Stripe stand-in carries invoice items with {name} only.", param=name
            )
    invoice = work.get("invoice", params["invoice"], "invoice")
    if invoice["status"] != "draft":
        raise _not_draft(invoice)
    if invoice["customer"] != params["customer"]:
        raise ApiError("The invoice is not of this customer.", param="invoice")
    now, amount = work.now(), params["amount"]
    item = work.make(
        "invoiceitem",
        "ii",
        amount=amount,
        currency=invoice["currency"],
        customer=invoice["customer"],
        date=now,
        description=params.get("description"),
        discountable=True,
        discounts=[],
        invoice=invoice["id"],
        metadata=merge_metadata({}, params),
        period={"start": now, "end": now},
        proration=False,
        quantity=1,
        quantity_decimal="1",
        tax_rates=[],
    )
    del item["created"]
    line = _line_of_item(work, item)
    invoice["lines"] = invoicing.lines_of(invoice["id"], [*invoice["lines"]["data"], line])
    invoicing.refresh(work, invoice)
    work.put(invoice)
    return work.put(item)


def finalize(call: Call) -> Body:
    """POST /v1/invoices/{invoice}/finalize."""
    invoice = call.work.get("invoice", call.path_params["invoice"])
    if invoice["status"] != "draft":
        raise _not_draft(invoice)
    collect = bool(call.params.get("auto_advance", invoice["auto_advance"]))
    return invoicing.finalize(call.work, invoice, collect=collect)


def pay(call: Call) -> Body:
    """POST /v1/invoices/{invoice}/pay."""
    refuse_unsupported(
        set(call.params) - {"expand", "off_session", "paid_out_of_band", "payment_method"}
    )
    work = call.work
    invoice = work.get("invoice", call.path_params["invoice"])
    if invoice["status"] != "open":
        raise ApiError(f"Invoice is {invoice['status']}, not open.", stored=True)
    if call.params.get("paid_out_of_band"):
        invoice["amount_paid_off_stripe"] = invoice["amount_remaining"]
        invoicing.mark_paid(work, invoice, invoice["amount_remaining"])
        return invoice
    if declined := invoicing.pay(work, invoice, call.params.get("payment_method")):
        if not declined.decline_code:
            raise ApiError(declined.message, stored=True, keeps=True)
        raise declined.as_error(None)
    return invoice


def void(call: Call) -> Body:
    """POST /v1/invoices/{invoice}/void."""
    work = call.work
    invoice = work.get("invoice", call.path_params["invoice"])
    if invoice["status"] != "open":
        raise ApiError(f"You can only void open invoices; it is {invoice['status']}.", stored=True)
    invoice |= {"status": "void", "amount_remaining": 0}
    invoice["status_transitions"]["voided_at"] = work.now()
    work.put(invoice)
    work.emit("invoice.voided", invoice)
    return invoice


def payments_list(call: Call) -> Body:
    """GET /v1/invoice_payments, by `invoice` and `status`."""
    refuse_unsupported(set(call.params) & {"payment"})
    return list_objects(call, "invoice_payment", "invoice_payment", equal=("invoice", "status"))


def credit_note_create(call: Call) -> Body:
    """POST /v1/credit_notes."""
    work = call.work
    invoice, note = _credit_note(call)
    refunded = call.params.get("refund_amount", 0)
    if refunded:
        made = charging.refund(work, _charge_of(work, invoice), refunded, reason=None, metadata={})
        row = {"amount_refunded": refunded, "refund": made["id"], "type": "refund"}
        note["refunds"] = [{**row, "payment_record_refund": None}]
    if credited := call.params.get("credit_amount", 0):
        customer = work.get("customer", invoice["customer"])
        customer["balance"] -= credited
        work.put(customer)
    before, after = note["pre_payment_amount"], note["post_payment_amount"]
    invoice["pre_payment_credit_notes_amount"] += before
    invoice["post_payment_credit_notes_amount"] += after
    invoice["amount_remaining"] -= before
    work.put(invoice)
    work.put(note)
    work.emit("credit_note.created", note)
    if invoice["status"] == "open" and invoice["amount_remaining"] == 0:
        invoicing.mark_paid(work, invoice, 0)
    return note


def credit_note_preview(call: Call) -> Body:
    """GET /v1/credit_notes/preview."""
    return _credit_note(call)[1]


def credit_note_list(call: Call) -> Body:
    """GET /v1/credit_notes, by `invoice` and `customer`."""
    return list_objects(call, "credit_note", "credit_note", equal=("invoice", "customer"))


def _credit_note(call: Call) -> tuple[Body, Body]:
    work, params = call.work, call.params
    refuse_unsupported(
        set(params)
        - {
            "amount", "credit_amount", "expand", "invoice", "memo", "metadata",
            "out_of_band_amount", "reason", "refund_amount",
        }
    )  # fmt: skip
    invoice = work.get("invoice", params["invoice"], "invoice")
    amount = params.get("amount", 0)
    before = _check_credit(invoice, amount, params)
    now, taxed = work.now(), bool(invoice["total_taxes"])
    tax = amount - amount * invoice["subtotal"] // invoice["total"] if taxed else 0
    count = len(work.where("credit_note", "invoice", invoice["id"]))
    note = work.make(
        "credit_note",
        "cn",
        amount=amount,
        amount_shipping=0,
        currency=invoice["currency"],
        customer=invoice["customer"],
        discount_amount=0,
        discount_amounts=[],
        effective_at=now,
        invoice=invoice["id"],
        memo=params.get("memo"),
        metadata=merge_metadata({}, params),
        number=f"{invoice['number']}-CN-{count + 1:02d}",
        out_of_band_amount=params.get("out_of_band_amount"),
        pdf=f"{work.base}/_standin/credit_note/{invoice['id']}",
        post_payment_amount=amount - before,
        pre_payment_amount=before,
        pretax_credit_amounts=[],
        reason=params.get("reason"),
        refunds=[],
        status="issued",
        subtotal=amount - tax,
        subtotal_excluding_tax=amount - tax,
        total=amount,
        total_excluding_tax=amount - tax,
        total_taxes=[invoicing.tax_line(amount - tax, tax)] if taxed else [],
        type="pre_payment" if before else "post_payment",
    )
    line = _credit_line(work, amount - tax, params.get("memo"))
    url = f"/v1/credit_notes/{note['id']}/lines"
    note["lines"] = {"object": "list", "data": [line], "has_more": False, "url": url}
    return invoice, note


def _check_credit(invoice: Body, amount: int, params: Body) -> int:
    """Return how much of a credit note lowers what is still owed. Raises ApiError."""
    if invoice["status"] not in ("open", "paid"):
        raise ApiError("You can only create a credit note for an open or paid invoice.")
    if amount <= 0:
        raise ApiError("The amount must be positive.", param="amount")
    given = invoice["pre_payment_credit_notes_amount"] + invoice["post_payment_credit_notes_amount"]
    if amount > invoice["total"] - given:
        raise ApiError(
            f"The sum of credit notes would be above the invoice's total of {invoice['total']}.",
            param="amount",
            stored=True,
        )
    placed = sum(
        params.get(name, 0) for name in ("refund_amount", "credit_amount", "out_of_band_amount")
    )
    before = min(amount, invoice["amount_remaining"]) if invoice["status"] == "open" else 0
    if placed != amount - before:
        raise ApiError(
            "The sum of credit amount, refund amount and out of band amount must equal the "
            f"post payment amount of {amount - before}.",
            param="amount",
            stored=True,
        )
    return before


def _credit_line(work: Work, amount: int, description: str | None) -> Body:
    line = work.make(
        "credit_note_line_item",
        "cnli",
        amount=amount,
        description=description or "Correction",
        discount_amount=0,
        discount_amounts=[],
        metadata={},
        pretax_credit_amounts=[],
        quantity=1,
        tax_rates=[],
        taxes=[],
        type="custom_line_item",
        unit_amount=amount,
        unit_amount_decimal=str(amount),
    )
    del line["created"]
    return line


def _charge_of(work: Work, invoice: Body) -> str:
    for row in work.where("invoice_payment", "invoice", invoice["id"]):
        if row["status"] == "paid":
            intent = work.get("payment_intent", row["payment"]["payment_intent"])
            return str(intent["latest_charge"])
    raise ApiError("The invoice has no payment that could be refunded.", param="refund_amount")
