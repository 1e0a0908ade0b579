"""The stand-in's own routes under /_standin: faults, clock, webhooks, and what people would do.

Pages (`checkout`, `onboard`, `invoice`) have buttons, which send a form and are sent on to the
next page; the same POST without a form takes and answers JSON, for tests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from marketplace.local.stripe_standin import (
    charging,
    checkout,
    clock,
    connect,
    delivery,
    invoicing,
    pages,
)
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.faults import Faults, parse
from marketplace.local.stripe_standin.store import Change, Store
from marketplace.local.stripe_standin.wire import Answer, Request, to_json
from marketplace.local.stripe_standin.work import Body, Work

SETTINGS = {"tax_percent": 100, "settle_delay_s": 30 * 86400}
"""Numbers that can be set, with their upper bounds."""


class Control:
    """Answers what is not Stripe's API."""

    def __init__(
        self, store: Store, faults: Faults, deliverer: delivery.Deliverer, base: str
    ) -> None:
        self.store = store
        self.faults = faults
        self.deliverer = deliverer
        self.base = base

    def answer(self, request: Request) -> Answer:
        """Answer one request under /_standin. Raises ApiError."""
        parts = request.path.removeprefix("/_standin/").split("/")
        match (request.method, *parts):
            case ("GET", "faults"):
                return Answer(200, to_json([rule.describe() for rule in self.faults.rules]), {})
            case ("DELETE", "faults"):
                self.faults.rules.clear()
                return Answer(200, "[]", {})
            case ("POST", "faults"):
                try:
                    self.faults.rules.append(parse(json.loads(request.body)))
                except ValueError as error:
                    raise ApiError(str(error)) from None
                return Answer(200, to_json([rule.describe() for rule in self.faults.rules]), {})
            case ("POST", "clock"):
                return self._set_clock(request.body)
            case ("DELETE", "state"):
                self.store.clear()
                self.faults.rules.clear()
                return Answer(200, "{}", {})
            case ("POST", "tick"):
                done = clock.tick(self.store, self.base, report_now=True)
                return Answer(200, to_json({"done": done}), {})
            case ("GET", "webhooks"):
                return Answer(200, to_json(self.deliverer.state()), {})
            case ("POST", "webhooks"):
                for each in delivery.endpoint(_body(request)):
                    self.store.commit(Change(objects=[each]))
                return Answer(200, to_json(self.deliverer.state()), {})
            case ("POST", "webhooks", "resend"):
                return self._resend(_field(_body(request), "id", str))
            case ("GET", "objects", kind):
                return Answer(200, to_json(list(self.store.kind(kind).values())), {})
            case ("GET", "checkout" | "onboard" | "invoice", id_):
                return self._page(parts[0], id_)
            case ("POST", "checkout" | "onboard" | "invoice", id_):
                return self._button(request, parts[0], id_)
            case ("POST", name) if name in _ACTS:
                return Answer(200, to_json(self._act(_ACTS[name], _body(request))), {})
        raise ApiError(f"The Stripe stand-in has no {request.method} {request.path}.", status=404)

    def _work(self) -> Work:
        return Work(self.store, Change(), base=self.base)

    def _act(self, act: Callable[[Work, Body], Body], raw: Body) -> Body:
        work = self._work()
        try:
            done = act(work, raw)
        except ApiError as error:
            if error.keeps:
                self.store.commit(work.change)
            raise
        self.store.commit(work.change)
        return done

    def _page(self, kind: str, id_: str) -> Answer:
        work = self._work()
        if kind == "checkout":
            text = pages.checkout(work.get("checkout.session", id_))
        elif kind == "onboard":
            text = pages.onboard(work.get("_account_link", id_), work.now())
        else:
            text = pages.invoice(work.get("invoice", id_))
        return Answer(200, text, {}, "text/html")

    def _button(self, request: Request, kind: str, id_: str) -> Answer:
        media = request.headers.get("content-type", "")
        as_json = not media.startswith("application/x-www-form-urlencoded")
        raw = _body(request) if as_json else dict(parse_qsl(request.body.decode()))
        acts = {"checkout": _checkout, "onboard": _onboard, "invoice": _invoice}
        try:
            done, where = self._two(acts[kind], raw | {"id": id_})
        except ApiError as error:
            if as_json:
                raise
            return Answer(error.status, pages.refused(error.message), {}, "text/html")
        if as_json:
            return Answer(200, to_json(done), {})
        return Answer(303, "", {"Location": where or f"{self.base}/"}, "text/html")

    def _two(self, act: Callable[[Work, Body], tuple[Body, str]], raw: Body) -> tuple[Body, str]:
        where = ""

        def run(work: Work, given: Body) -> Body:
            nonlocal where
            done, where = act(work, given)
            return done

        return self._act(run, raw), where

    def _resend(self, id_: str) -> Answer:
        found = self.store.kind("_delivery").get(id_)
        if found is None:
            raise ApiError(f"id: no event {id_} was sent", status=404, param="id")
        self.store.commit(Change(objects=[{**found, "state": "pending", "attempts": 0}]))
        return Answer(200, to_json(self.deliverer.state()), {})

    def _set_clock(self, raw: bytes) -> Answer:
        try:
            given = json.loads(raw)
            freeze = given.pop("freeze", False)
            ((name, value),) = given.items()
            if name not in ("offset_s", "now", "advance_s") or type(value) is not int:
                raise ValueError
            if type(freeze) is not bool:
                raise ValueError
        except (ValueError, AttributeError, TypeError):
            raise ApiError(
                'offset_s, now or advance_s: whole seconds, as in {"offset_s": 86400}; and '
                'perhaps "freeze": true'
            ) from None
        store = self.store
        real = int(time.time())
        target = {"offset_s": real + value, "now": value, "advance_s": store.now() + value}[name]
        stays_frozen = store.frozen_at is not None and name == "advance_s"
        offset, frozen = target - real, target if freeze or stays_frozen else None
        store.commit(Change(clock=(offset, frozen)))
        done = clock.tick(store, self.base)
        return Answer(
            200, to_json({"offset_s": offset, "now": store.now(), "frozen": frozen is not None,
                          "done": done}), {}
        )  # fmt: skip


def _body(request: Request) -> Body:
    try:
        raw = json.loads(request.body or b"{}")
    except ValueError:
        raise ApiError("The body is not JSON.") from None
    if not isinstance(raw, dict):
        raise ApiError("The body is not a JSON object.")
    return raw


def _field(raw: Body, name: str, kind: type, default: Any = None) -> Any:
    value = raw.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ApiError(f"{name}: missing, or not of type {kind.__name__}", param=name)
    return value


def _checkout(work: Work, raw: Body) -> tuple[Body, str]:
    session = work.get("checkout.session", raw["id"])
    if raw.get("card") == "cancel":
        return session, session["cancel_url"] or ""
    done = checkout.complete(work, raw["id"], _field(raw, "card", str, "pm_card_visa"))
    where = done["success_url"].replace("{CHECKOUT_SESSION_ID}", done["id"])
    return done, where


def _onboard(work: Work, raw: Body) -> tuple[Body, str]:
    link = work.get("_account_link", raw["id"])
    if link["used"] or link["expires_at"] <= work.now():
        return link, link["refresh_url"]
    link["used"] = True
    work.put(link)
    return connect.onboard(work, link["account"]), link["return_url"]


def _invoice(work: Work, raw: Body) -> tuple[Body, str]:
    invoice = work.get("invoice", raw["id"])
    if invoice["status"] != "open":
        raise ApiError(f"The invoice is {invoice['status']}, not open.")
    if declined := invoicing.pay(work, invoice, _field(raw, "card", str, "pm_card_visa")):
        raise declined.as_error(None)
    return invoice, invoice["hosted_invoice_url"]


def _dispute(work: Work, raw: Body) -> Body:
    if "dispute" in raw:
        status = raw.get("status")
        if status not in ("won", "lost"):
            raise ApiError("status: won or lost", param="status")
        return charging.dispute_close(work, _field(raw, "dispute", str), status)
    if "payment_intent" in raw:
        intent = work.get("payment_intent", _field(raw, "payment_intent", str), "payment_intent")
        charge = work.get("charge", intent["latest_charge"] or "", "payment_intent")
    else:
        charge = work.get("charge", _field(raw, "charge", str), "charge")
    amount = _field(raw, "amount", int, charge["amount"])
    return charging.dispute(work, charge["id"], amount, raw.get("reason", "fraudulent"))


def _payment(work: Work, raw: Body) -> Body:
    failed = _field(raw, "failed", bool, default=False)
    return charging.settle(work, _field(raw, "payment_intent", str), failed=failed)


def _refund(work: Work, raw: Body) -> Body:
    if raw.get("failed") is not True:
        raise ApiError("failed: true is all that can happen to a refund", param="failed")
    return charging.refund_fail(work, _field(raw, "refund", str))


def _payout(work: Work, raw: Body) -> Body:
    account, amount = _field(raw, "account", str), _field(raw, "amount", int)
    return connect.payout(work, account, amount, failed=_field(raw, "failed", bool, default=False))


def _account(work: Work, raw: Body) -> Body:
    status = raw.get("transfers")
    if status not in ("active", "pending", "restricted", "unsupported"):
        raise ApiError("transfers: active, pending, restricted or unsupported", param="transfers")
    wanted = tuple(map(str, _field(raw, "requirements", list, [])))
    return connect.set_state(work, _field(raw, "account", str), status, wanted)


def _balance(work: Work, raw: Body) -> Body:
    return charging.move(work, "topup", _field(raw, "amount", int), None)


def _settings(work: Work, raw: Body) -> Body:
    current = work.find("_settings", "settings") or {"object": "_settings", "id": "settings"}
    for name, value in raw.items():
        if name not in SETTINGS:
            raise ApiError(f"{name}: unknown; known: {', '.join(SETTINGS)}", param=name)
        if not 0 <= _field(raw, name, int) <= SETTINGS[name]:
            raise ApiError(f"{name}: 0 to {SETTINGS[name]}", param=name)
        current[name] = value
    return work.put(current)


_ACTS: dict[str, Callable[[Work, Body], Body]] = {
    "account": _account,
    "balance": _balance,
    "dispute": _dispute,
    "payment": _payment,
    "payout": _payout,
    "refund": _refund,
    "settings": _settings,
}
