"""The HTTP side: authentication, routing, validation, idempotency and faults around handlers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import time
from collections import Counter
from typing import Any

from marketplace.local.stripe_standin import clock, page
from marketplace.local.stripe_standin.calls import Call
from marketplace.local.stripe_standin.checks import (
    authenticate,
    check_key,
    check_version,
    fits,
    parse_params,
    rate_limited,
    replay,
)
from marketplace.local.stripe_standin.control import Control
from marketplace.local.stripe_standin.delivery import Deliverer
from marketplace.local.stripe_standin.description import Description, Operation
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.faults import Faults
from marketplace.local.stripe_standin.handlers import HANDLERS
from marketplace.local.stripe_standin.store import Change, Store, StoredAnswer
from marketplace.local.stripe_standin.versions import answer_to_endive, is_endive
from marketplace.local.stripe_standin.wire import (
    MAX_BODY,
    Answer,
    Receive,
    Request,
    Scope,
    Send,
    cut,
    lifespan,
    read,
    send_answer,
    to_json,
)
from marketplace.local.stripe_standin.work import Work

log = logging.getLogger("stripe_standin")

STREAM = "/v2/billing/meter_event_stream"
TICK_S = 1.0


class Dropped(Exception):
    """A fault asks for the connection to be cut instead of an answer."""


class App:
    """The ASGI application; one event loop, so a handler and its commit are never interleaved."""

    def __init__(self, description: Description, store: Store, base: str) -> None:
        self.description = description
        self.store = store
        self.base = base
        store.nullable = description.nullable
        self.faults = Faults()
        self.deliverer = Deliverer(store, self.faults)
        self.control = Control(store, self.faults, self.deliverer, base)
        self._tasks: list[asyncio.Task[None]] = []
        self.requests: Counter[str] = Counter()
        self._routes = [
            (re.compile(r"\A" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + r"\Z"), path)
            for path in sorted({path for _, path in HANDLERS}, key=lambda path: path.count("{"))
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self._start, self._stop)
            return
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        request = await read(scope, receive)
        if request is None:
            return
        try:
            answer = await self._answer(request)
        except Dropped as reason:
            log.info("%s %s: %s", request.method, request.path, reason)
            cut(scope)
            await asyncio.sleep(0.01)
            return
        self.requests[f"{request.method} {request.path.split('?')[0]} {answer.status}"] += 1
        elapsed_ms = (time.perf_counter() - started) * 1000
        log.info(
            "%s %s %d %.1f ms %s", request.method, request.path, answer.status, elapsed_ms,
            request.id,
        )  # fmt: skip
        await send_answer(send, answer, request, self.description.api_version)

    def _start(self) -> None:
        self._tasks = [
            asyncio.create_task(self.deliverer.run()), asyncio.create_task(self._tick())
        ]  # fmt: skip

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                clock.tick(self.store, self.base)
            except Exception:
                log.exception("a defect of the stand-in's clock")

    async def _answer(self, request: Request) -> Answer:
        try:
            if len(request.body) > MAX_BODY:
                raise ApiError("The request is too large.", status=413)
            if request.path.startswith("/_standin/") or request.path == "/":
                return self._own(request)
            return await self._api(request)
        except ApiError as error:
            return Answer(error.status, to_json(error.body()), error.headers)
        except Dropped:
            raise
        except Exception:
            log.exception("a defect of the stand-in in %s %s", request.method, request.path)
            message = "The Stripe stand-in failed; see its log."
            return Answer(500, to_json(ApiError(message, type_="api_error").body()), {})

    async def _api(self, request: Request) -> Answer:
        clock.tick(self.store, self.base)
        authenticate(request.headers, self._tokens(request.path), self.store.now())
        check_version(request.headers)
        operation, path_params = self._route(request)
        fault = self.faults.draw(request.path)
        mode = fault.mode if fault else None
        if mode == "drop_before":
            raise Dropped("fault drop_before: not applied, connection cut")
        if fault and mode == "delay":
            await asyncio.sleep(fault.delay_s)
        if fault and mode == "429":
            raise rate_limited(fault.retry_after)
        params = parse_params(operation, request)
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        answer = self._replay_or_run(
            request, operation, path_params, params, key, fail=mode == "500_stored"
        )
        if mode == "drop_after":
            raise Dropped("fault drop_after: applied, answer lost")
        return answer

    def _tokens(self, path: str) -> dict[str, int]:
        if path != STREAM:
            return {}
        sessions = self.store.kind("_meter_session").values()
        return {row["id"]: row["expires_at"] for row in sessions} or {"": 0}

    def _route(self, request: Request) -> tuple[Operation, dict[str, str]]:
        for pattern, path in self._routes:
            if match := pattern.match(request.path):
                operation = self.description.operations.get((request.method.lower(), path))
                if operation is not None:
                    return operation, match.groupdict()
        message = f"Unrecognized request URL ({request.method}: {request.path})."
        if any(fits(path, request.path) for path in self.description.all_paths):
            message += " Stripe publishes this path; this Stripe stand-in does not carry it."
        raise ApiError(message, status=404)

    def _replay_or_run(
        self,
        request: Request,
        operation: Operation,
        path_params: dict[str, str],
        params: dict[str, Any],
        key: str | None,
        *,
        fail: bool,
    ) -> Answer:
        print_ = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
        if key is not None:
            check_key(key)
            if (stored := self.store.stored_answer(key)) is not None:
                return replay(stored, key, request.path, print_)
        work = Work(self.store, Change(), request=(request.id, key), base=self.base)
        account = request.headers.get("stripe-account", "")
        call = Call(self.store, params, path_params, key, request.path, work, account)
        headers: dict[str, str] = {}
        keep = True
        try:
            if fail:
                raise ApiError(
                    "An unknown error occurred (a fault of the Stripe stand-in).",
                    status=500,
                    type_="api_error",
                    headers={"Stripe-Should-Retry": "false"},
                    stored=True,
                )
            found = HANDLERS[operation.method, operation.path](call)
            if is_endive(request.headers.get("stripe-version")):
                found = answer_to_endive(found)
            status, body = 200, to_json(found)
        except ApiError as error:
            status, body, headers = error.status, to_json(error.body()), error.headers
            keep = error.stored
            if not error.keeps:
                # A refusal changes nothing else.
                work.change = Change(duplicates=call.change.duplicates)
        if key is not None and keep:
            now = self.store.now()
            stored = StoredAnswer(request.path, print_, status, body, request.id, now)
            call.change.answer = (key, stored)
        self.store.commit(call.change)
        return Answer(status, body, headers)

    def _own(self, request: Request) -> Answer:
        match (request.method, request.path):
            case ("GET", "/"):
                return Answer(200, page.html(self.store, self._state()), {}, "text/html")
            case ("GET", "/_standin/state"):
                return Answer(200, to_json(self._state(events="events=1" in request.query)), {})
        return self.control.answer(request)

    def _state(self, *, events: bool = False) -> dict[str, Any]:
        versions = {
            "api_version": self.description.api_version,
            "wheel_version": self.description.wheel_version,
        }
        return page.state(self.store, self.faults, self.requests, versions, events=events)
