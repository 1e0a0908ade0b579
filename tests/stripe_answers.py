"""Asks the Stripe stand-in everything that it can answer, one operation after the other."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.stripe_standin import KEY, Handle

Answers = dict[tuple[str, str], Any]


class Recorder:
    """Calls by the templates of Stripe's description and keeps each answer."""

    def __init__(self, standin: Handle) -> None:
        self.standin = standin
        self.answers: Answers = {}

    def ask(
        self,
        method: str,
        template: str,
        fields: Any = None,
        *ids: str,
        key: str = KEY,
        **headers: str,
    ) -> Any:
        """Call once, with `ids` for the braces in order; return the JSON of a 200."""
        left = list(ids)
        parts = template.split("/")
        target = "/".join(left.pop(0) if part.startswith("{") else part for part in parts)
        if template.startswith("/v2/") and method == "post":
            sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            reply = self.standin.raw("POST", target, json.dumps(fields or {}), sent)
        else:
            reply = self.standin.call(method.upper(), target, fields, **headers)
        assert reply.status == 200, (method, template, reply.json)
        self.answers[method, template] = reply.json
        return reply.json


def every_answer(standin: Handle) -> Answers:
    """Return the answer of every operation. Moves the clock: use a stand-in of its own."""
    recorder = Recorder(standin)
    ask = recorder.ask
    meter, event_name = standin.meter()
    customer = ask("post", "/v1/customers", {"name": "N", "address[city]": "Oslo"})["id"]
    _catalogue(ask, meter)
    _customers(ask, customer)
    _meters(ask, meter, event_name, customer)
    price = recorder.answers["post", "/v1/prices"]["id"]
    intent = _payments(ask, customer)
    _invoices(recorder, customer, price)
    _checkout(ask, customer)
    _disputes(recorder, intent)
    _connect(recorder)
    return recorder.answers


def _catalogue(ask: Any, meter: str) -> None:
    product = ask("post", "/v1/products", {"name": "P", "description": "d"})
    ask("get", "/v1/products")
    ask("get", "/v1/products/{id}", None, product["id"])
    fields = {
        "currency": "usd",
        "product": product["id"],
        "unit_amount_decimal": "0.0001",
        "recurring[interval]": "month",
        "recurring[usage_type]": "metered",
        "recurring[meter]": meter,
    }
    price = ask("post", "/v1/prices", fields)
    ask("get", "/v1/prices")
    ask("get", "/v1/prices/{price}", None, price["id"])


def _customers(ask: Any, customer: str) -> None:
    ask("get", "/v1/customers")
    ask("get", "/v1/customers/{customer}", None, customer)
    ask("post", "/v1/customers/{customer}", {"email": "a@example.com"}, customer)
    fields = {"type": "eu_vat", "value": "DE123456789"}
    tax_id = ask("post", "/v1/customers/{customer}/tax_ids", fields, customer)
    ask("get", "/v1/customers/{customer}/tax_ids", None, customer)
    ask("delete", "/v1/customers/{customer}/tax_ids/{id}", None, customer, tax_id["id"])
    attach = "/v1/payment_methods/{payment_method}/attach"
    method = ask("post", attach, {"customer": customer}, "pm_card_visa")
    ask("get", "/v1/customers/{customer}/payment_methods", None, customer)
    default = {"invoice_settings[default_payment_method]": method["id"]}
    ask("post", "/v1/customers/{customer}", default, customer)
    spare = ask("post", attach, {"customer": customer}, "pm_card_mastercard")
    ask("post", "/v1/payment_methods/{payment_method}/detach", None, spare["id"])


def _meters(ask: Any, meter: str, event_name: str, customer: str) -> None:
    ask("get", "/v1/billing/meters")
    ask("get", "/v1/billing/meters/{id}", None, meter)
    event = {
        "event_name": event_name,
        "identifier": f"fit-{time.time_ns()}",
        "payload[stripe_customer_id]": customer,
        "payload[value]": "5",
    }
    ask("post", "/v1/billing/meter_events", event)
    summaries = {"customer": customer, "start_time": 0, "end_time": int(time.time()) // 60 * 60}
    ask("get", "/v1/billing/meters/{id}/event_summaries", summaries, meter)
    cancel = {"event_name": event_name, "type": "cancel", "cancel[identifier]": event["identifier"]}
    ask("post", "/v1/billing/meter_event_adjustments", cancel)
    session = ask("post", "/v2/billing/meter_event_session")
    payload = {"stripe_customer_id": customer, "value": "20000000"}
    events = [{"event_name": event_name, "payload": payload}]
    faulty = [{"event_name": event_name, "payload": {**payload, "value": "much"}}]
    token = session["authentication_token"]
    ask("post", "/v2/billing/meter_event_stream", {"events": events + faulty}, key=token)
    ask.__self__.standin.control("POST", "tick")
    reports = ask.__self__.standin.control("GET", "objects/v2.core.event").json
    ask("get", "/v2/core/events/{id}", None, reports[-1]["id"])
    formula = {"default_aggregation[formula]": "count", "display_name": "d"}
    ask("post", "/v1/billing/meters", {**formula, "event_name": f"{event_name}_2"})
    ask("post", "/v1/billing/meters/{id}/deactivate", None, meter)
    ask("post", "/v1/billing/meters/{id}/reactivate", None, meter)


def _payments(ask: Any, customer: str) -> str:
    fields = {
        "amount": 1000,
        "currency": "usd",
        "customer": customer,
        "confirm": "true",
        "off_session": "true",
        "payment_method": "pm_card_visa",
    }
    intent = ask("post", "/v1/payment_intents", fields)
    ask("get", "/v1/payment_intents")
    ask("get", "/v1/payment_intents/{intent}", None, intent["id"])
    charge = ask("get", "/v1/charges/{charge}", None, intent["latest_charge"])
    ask("get", "/v1/balance_transactions/{id}", None, charge["balance_transaction"])
    ask("get", "/v1/balance")
    refund = ask("post", "/v1/refunds", {"payment_intent": intent["id"], "amount": 100})
    ask("get", "/v1/refunds")
    ask("get", "/v1/refunds/{refund}", None, refund["id"])
    setup = ask("post", "/v1/setup_intents", {"customer": customer})
    ask("get", "/v1/setup_intents/{intent}", None, setup["id"])
    confirm = "/v1/setup_intents/{intent}/confirm"
    ask("post", confirm, {"payment_method": "pm_card_visa"}, setup["id"])
    return str(intent["id"])


def _invoices(recorder: Recorder, customer: str, price: str) -> None:
    ask = recorder.ask
    fields = {
        "customer": customer,
        "items[0][price]": price,
        "billing_cycle_anchor_config[day_of_month]": 1,
        "proration_behavior": "none",
        "backdate_start_date": int(time.time()) - 3600,
    }
    subscription = ask("post", "/v1/subscriptions", fields)
    ask("get", "/v1/subscriptions")
    one = "/v1/subscriptions/{subscription_exposed_id}"
    ask("get", one, None, subscription["id"])
    ask("post", "/v1/invoices/create_preview", {"subscription": subscription["id"]})
    end = subscription["items"]["data"][0]["current_period_end"]
    recorder.standin.control("POST", "clock", {"now": end + 1})
    ask("post", "/v1/invoices", {"customer": recorder.standin.customer()})
    rows = ask("get", "/v1/invoices", {"customer": customer})["data"]
    draft = rows[0]["id"]
    assert rows[0]["status"] == "draft"
    ask("get", "/v1/invoices/{invoice}", None, draft)
    item = {"customer": customer, "invoice": draft, "amount": 5, "currency": "usd"}
    ask("post", "/v1/invoiceitems", item)
    ask("post", "/v1/invoices/{invoice}", {"auto_advance": "false"}, draft)
    ask("get", "/v1/invoices/{invoice}/lines", None, draft)
    ask("post", "/v1/invoices/{invoice}/finalize", {"auto_advance": "false"}, draft)
    ask("get", "/v1/credit_notes/preview", {"invoice": draft, "amount": 5})
    ask("post", "/v1/credit_notes", {"invoice": draft, "amount": 5})
    ask("get", "/v1/credit_notes", {"invoice": draft})
    ask("post", "/v1/invoices/{invoice}/pay", None, draft)
    ask("get", "/v1/invoice_payments", {"invoice": draft})
    _void_the_next(recorder, customer, end)
    ask("delete", one, None, subscription["id"])


def _void_the_next(recorder: Recorder, customer: str, end: int) -> None:
    recorder.standin.control("POST", "clock", {"now": end + 31 * 86400})
    rows = recorder.ask("get", "/v1/invoices", {"customer": customer})["data"]
    draft = rows[0]["id"]
    item = {"customer": customer, "invoice": draft, "amount": 5, "currency": "usd"}
    recorder.ask("post", "/v1/invoiceitems", item)
    finalize = "/v1/invoices/{invoice}/finalize"
    recorder.ask("post", finalize, {"auto_advance": "false"}, draft)
    recorder.ask("post", "/v1/invoices/{invoice}/void", None, draft)


def _checkout(ask: Any, customer: str) -> None:
    fields = {
        "mode": "payment",
        "customer": customer,
        "success_url": "http://127.0.0.1/done",
        "line_items[0][quantity]": 1,
        "line_items[0][price_data][currency]": "usd",
        "line_items[0][price_data][unit_amount]": 500,
        "line_items[0][price_data][product_data][name]": "Credit",
    }
    session = ask("post", "/v1/checkout/sessions", fields)
    ask("get", "/v1/checkout/sessions")
    paid = ask.__self__.standin.control("POST", f"checkout/{session['id']}", {})
    assert paid.status == 200
    ask("get", "/v1/checkout/sessions/{session}", None, session["id"])
    second = ask("post", "/v1/checkout/sessions", fields)
    ask("post", "/v1/checkout/sessions/{session}/expire", None, second["id"])


def _disputes(recorder: Recorder, intent: str) -> None:
    made = recorder.standin.control("POST", "dispute", {"payment_intent": intent}).json
    recorder.ask("get", "/v1/disputes/{dispute}", None, made["id"])


def _connect(recorder: Recorder) -> None:
    ask = recorder.ask
    transfers = {"stripe_transfers": {"requested": True}}
    recipient = {"capabilities": {"stripe_balance": transfers}}
    body = {
        "contact_email": "v@example.com",
        "dashboard": "express",
        "identity": {"country": "de"},
        "configuration": {"recipient": recipient},
        "defaults": {
            "responsibilities": {"fees_collector": "application", "losses_collector": "application"}
        },
    }
    account = ask("post", "/v2/core/accounts", body)["id"]
    onboarding = {"configurations": ["recipient"], "refresh_url": "http://127.0.0.1/"}
    use_case = {"type": "account_onboarding", "account_onboarding": onboarding}
    link = ask("post", "/v2/core/account_links", {"account": account, "use_case": use_case})
    include = {"include[0]": "configuration.recipient", "include[1]": "requirements"}
    ask("get", "/v2/core/accounts/{id}", include, account)
    recorder.standin.control("POST", link["url"].partition("/_standin/")[2], {})
    recorder.standin.control("POST", "balance", {"amount": 1000})
    fields = {"amount": 100, "currency": "usd", "destination": account}
    transfer = ask("post", "/v1/transfers", fields)
    ask("get", "/v1/transfers")
    ask("get", "/v1/transfers/{transfer}", None, transfer["id"])
    ask("post", "/v1/transfers/{id}/reversals", {"amount": 40}, transfer["id"])
    ask("get", "/v1/transfers/{id}/reversals", None, transfer["id"])
    payout = recorder.standin.control(
        "POST", "payout", {"account": account, "amount": 60, "failed": True}
    ).json
    ask("get", "/v1/payouts/{payout}", None, payout["id"], Stripe_Account=account)
