"""Webhooks out: signed as Stripe signs, retried until taken, with faults on demand.

The queue is part of the journalled state, so a killed stand-in goes on where it was. One
event is sent at a time, in order; only failures and faults change the order, as they do at
Stripe. Waits are in real time, whatever the stand-in's clock says: so are the signatures.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import hmac
import http.client
import json
import logging
import time
from typing import Any
from urllib.parse import urlsplit

from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.faults import Faults
from marketplace.local.stripe_standin.store import Change, Store
from marketplace.local.stripe_standin.versions import answer_to_endive

log = logging.getLogger("stripe_standin")

TIMEOUT_S = 10.0
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 30.0
KINDS = ("snapshot", "thin")


class Deliverer:
    """Sends what is queued in a store; `run` is a task of the event loop."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self.store = store
        self.faults = faults
        self.sent = 0
        self.last_failure = ""
        self._queue: list[tuple[float, int, str]] = []
        self._count = 0
        self._wake = asyncio.Event()
        for delivery in store.kind("_delivery").values():
            self._push(delivery)
        store.listeners.append(self._notice)

    def _notice(self, change: Change) -> None:
        for obj in change.objects:
            if obj["object"] == "_delivery" and obj["attempts"] == 0:
                self._push(obj)

    def _push(self, delivery: dict[str, Any], wait_s: float = 0.0) -> None:
        if delivery["state"] == "pending":
            self._count += 1
            at = time.monotonic() + wait_s
            heapq.heappush(self._queue, (at, self._count, delivery["id"]))
            self._wake.set()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            wait = self._queue[0][0] - time.monotonic() if self._queue else None
            if wait is None or wait > 0:
                self._wake.clear()
                try:
                    await asyncio.wait_for(self._wake.wait(), wait)
                except TimeoutError:
                    continue
                continue
            _, _, id_ = heapq.heappop(self._queue)
            try:
                await self._attempt(id_)
            except Exception:
                log.exception("a defect of the stand-in in the delivery of %s", id_)

    async def _attempt(self, id_: str) -> None:
        delivery = self.store.kind("_delivery").get(id_)
        endpoint = self.store.kind("_endpoint").get(delivery["kind"]) if delivery else None
        if delivery is None or endpoint is None or delivery["state"] != "pending":
            return  # delivered by now, or all was forgotten
        fault = self.faults.draw(f"webhook:{delivery['type']}")
        mode = fault.mode if fault else None
        if fault and mode in ("delay", "reorder"):
            self._push(delivery, fault.delay_s)  # what is behind it goes first
            return
        if mode == "drop_before":
            failure = "fault drop_before: not sent"
        else:
            failure = ""
            for _ in range(2 if mode == "duplicate" else 1):
                failure = await asyncio.to_thread(self._post, endpoint, delivery)
                self.sent += 1
            if mode == "drop_after" and not failure:
                failure = "fault drop_after: sent, answer lost"
        self._note(delivery, failure)

    def _note(self, delivery: dict[str, Any], failure: str) -> None:
        if delivery["id"] not in self.store.kind("_delivery"):
            return  # all was forgotten while it was on its way
        changed = {**delivery, "attempts": delivery["attempts"] + 1}
        log.info("webhook %s %s %s", delivery["type"], delivery["id"], failure or "taken")
        if failure:
            self.last_failure = failure
            self.store.commit(Change(objects=[changed]))
            wait = min(FIRST_RETRY_S * 2 ** min(delivery["attempts"], 20), LAST_RETRY_S)
            self._push(changed, wait)
            return
        objects = [changed | {"state": "delivered"}]
        event = self.store.kind("event").get(delivery["id"])
        if event is not None:
            objects.append({**event, "pending_webhooks": 0})
        self.store.commit(Change(objects=objects))

    def _post(self, endpoint: dict[str, Any], delivery: dict[str, Any]) -> str:
        """Send once; return why it failed, or nothing."""
        body = json.dumps(self._payload(delivery)).encode()
        parts = urlsplit(endpoint["url"])
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=TIMEOUT_S
        )
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": sign(body, endpoint["secret"], int(time.time())),
            "User-Agent": "Stripe-stand-in/1.0 (not Stripe)",
        }
        target = parts.path + (f"?{parts.query}" if parts.query else "") or "/"
        try:
            connection.request("POST", target, body=body, headers=headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"{endpoint['url']}: {error}"
        finally:
            connection.close()
        return "" if 200 <= status < 300 else f"{endpoint['url']} answered {status}"

    def _payload(self, delivery: dict[str, Any]) -> Any:
        if delivery["kind"] == "snapshot":
            return answer_to_endive(self.store.kind("event")[delivery["id"]])
        event = self.store.kind("v2.core.event")[delivery["id"]]
        return {key: value for key, value in event.items() if key != "data"}

    def state(self) -> dict[str, Any]:
        """Return where events go and how many wait, without the secrets."""
        deliveries = self.store.kind("_delivery").values()
        return {
            "endpoints": {
                kind: row["url"] for kind, row in sorted(self.store.kind("_endpoint").items())
            },
            "pending": [row["id"] for row in deliveries if row["state"] == "pending"],
            "delivered": sum(row["state"] == "delivered" for row in deliveries),
            "sent": self.sent,
            "last_failure": self.last_failure,
        }


def sign(body: bytes, secret: str, at: int) -> str:
    """Return the `Stripe-Signature` of a body at a time in epoch seconds."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def endpoint(raw: Any) -> list[dict[str, Any]]:
    """Read `{"url", "secret", "kind"?}` of a request: kind snapshot, thin, or both if left out.

    Raises ApiError naming the field.
    """
    if not isinstance(raw, dict) or set(raw) - {"url", "secret", "kind"}:
        raise ApiError('a JSON object with "url", "secret" and perhaps "kind"')
    url, secret, kind = raw.get("url"), raw.get("secret"), raw.get("kind")
    if not isinstance(url, str) or not url.startswith("http://"):
        raise ApiError("url: an address that begins with http://", param="url")
    if not isinstance(secret, str) or not secret:
        raise ApiError("secret: the text that signs, such as whsec_…", param="secret")
    if kind not in (None, *KINDS):
        raise ApiError(f"kind: one of {', '.join(KINDS)}", param="kind")
    return [
        {"object": "_endpoint", "id": each, "url": url, "secret": secret}
        for each in ([kind] if kind else KINDS)
    ]
