"""The operations, each written once: `client.py` and `aio.py` carry them out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from mercato import errors, events, uploads
from mercato.events import path_of
from mercato.models import Model, Version
from mercato.money import nano_usd
from mercato.steps import Emit, Flow, Open, Request, Sleep
from mercato.types import Balance, Job, Output, Outputs, Quote
from mercato.wire import Config, ask, send

Dollars = Decimal | str | float
MOST_HELD_S = 60
_HELD_MORE_S = 15.0
"""Beyond the time that an answer is held, before it counts as lost."""
_FIRST_LOOK_S, _MOST_LOOK_S = 0.2, 2.0


def submit(
    config: Config,
    model: str,
    given: Mapping[str, Any] | None,
    *,
    max_charge: Dollars | None = None,
    idempotency_key: str | None = None,
    extra: Mapping[str, Any] | None = None,
    hold_s: int = 0,
    **options: Any,
) -> Flow[Job]:
    """Upload what has to be, and submit; the answer may wait `hold_s` seconds for the end.

    `options` are fields of the request's body that are left out where they are None.
    """
    most = None if max_charge is None else nano_usd(max_charge)
    body = {"model": model, "input": (yield from uploads.upload_all(config, given or {}))}
    fields = {"max_charge_nano_usd": most, **options}
    body |= {name: value for name, value in fields.items() if value is not None}
    # The same for each repetition of this call, so that it makes one job.
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    if hold_s:
        headers["Prefer"] = f"wait={hold_s}"
    request = config.request(
        "POST",
        "/v1/jobs",
        json={**(extra or {}), **body},
        headers=headers,
        timeout=max(config.timeout, hold_s + _HELD_MORE_S),
    )
    return Job.from_json((yield from ask(config, request)))


def get(config: Config, job: Job | str) -> Flow[Job]:
    """Return a job as it is now."""
    return Job.from_json((yield from ask(config, config.request("GET", path_of(job)))))


def cancel(config: Config, job: Job | str) -> Flow[Job]:
    """Cancel; what has ended already is returned as it ended."""
    try:
        told = yield from ask(config, config.request("POST", path_of(job, "/cancel")))
    except errors.Conflict:
        return (yield from get(config, job))
    return Job.from_json(told)


def wait(
    config: Config, job: Job | str, timeout: float | None, *, began: float | None = None
) -> Flow[Job]:
    """Return a job when it has ended, well or not. Raises Timeout.

    `timeout` is in seconds from the moment `began` (of time.monotonic), None for now.
    """
    until = None if timeout is None else (began or time.monotonic()) + timeout
    look = _FIRST_LOOK_S
    known = job if isinstance(job, Job) else (yield from get(config, job))
    while not known.is_ended:
        left = look if until is None else until - time.monotonic()
        if left <= 0:
            raise errors.Timeout(f"The job {known.id} has not ended in {timeout:g} s.", known)
        yield Sleep(min(look, left))
        look = min(look * 1.4, _MOST_LOOK_S)
        known = yield from get(config, known.id)
    return known


def run(
    config: Config,
    model: str,
    given: Mapping[str, Any] | None,
    *,
    timeout: float | None,
    with_events: bool,
    **options: Any,
) -> Flow[Outputs]:
    """Submit, wait, and return what was made. Raises JobFailed, JobCancelled, Timeout."""
    began = time.monotonic()
    held = MOST_HELD_S if timeout is None else min(int(timeout), MOST_HELD_S)
    job = yield from submit(config, model, given, hold_s=0 if with_events else held, **options)
    if with_events and timeout is None:
        job = yield from events.follow(config, job.id)
    elif with_events:
        job = yield from _follow_until(config, job, began + (timeout or 0))
    job = yield from wait(config, job, timeout, began=began)
    return Outputs(job.raise_for_status().outputs, job)


def _follow_until(config: Config, job: Job, until: float) -> Flow[Job]:
    """Emit what happens to a job, at most until a moment; return it as it was seen last."""
    flow = events.follow(config, job.id)
    answer: Any = None
    try:
        step = next(flow)
        while (left := until - time.monotonic()) > 0:
            if isinstance(step, Emit) and step.value.job is not None:
                job = step.value.job
            if isinstance(step, Open):  # nothing may come for longer than there is time
                step = Open(replace(step.request, timeout=min(step.request.timeout, left)))
            try:
                answer = yield step
            except errors.ConnectionFailed as error:
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        ended: Job = end.value
        return ended
    finally:
        flow.close()
    return job


def price(config: Config, model: str, given: Mapping[str, Any] | None) -> Flow[Quote]:
    """Return the most that a call can cost. Files in the input are not sent."""
    body = {"input": _without_files(given or {})}
    vendor, name, number = split_ref(model)
    path = f"{_of(vendor, f'{name}:{number}' if number else name)}/quote"
    told = yield from ask(config, config.request("POST", path, json=body))
    return Quote.from_json(told)


def _without_files(value: Any) -> Any:
    """Return an input with an id of nobody's in place of each file: no price depends on one."""
    if uploads.is_file(value):
        return str(uuid.UUID(int=0))
    if isinstance(value, Mapping):
        return {name: _without_files(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_files(inner) for inner in value]
    return value


def split_ref(ref: str) -> tuple[str, str, str]:
    """Return vendor, name and version number (or "") of `vendor/name:3`. Raises InvalidInput."""
    path, _, number = ref.partition(":")
    vendor, slash, name = path.partition("/")
    if not slash or not vendor or not name or "/" in name:
        why = f"{ref!r} is not of the form vendor/name."
        raise errors.InvalidInput(why, code="invalid_input", fields={"model": [why]})
    return vendor, name, number


def model_get(config: Config, ref: str) -> Flow[Model]:
    """Return a model, with the version that `ref` names if it names one."""
    vendor, name, number = split_ref(ref)
    model = Model.from_json((yield from ask(config, config.request("GET", _of(vendor, name)))))
    if not number:
        return model
    rows = yield from ask(config, config.request("GET", f"{_of(vendor, name)}/versions"))
    for row in rows:
        if str(row["number"]) == number:
            return Model.from_json({**model.raw, "version": row})
    found = Version.from_json(rows[0]).number if rows else "none"
    raise errors.NotFound(
        f"{vendor}/{name} has no version {number} that you can call; the newest is {found}.",
        status=404,
        code="model_not_found",
    )


def pages(
    config: Config, path: str, params: Mapping[str, str], read: Callable[[Any], Any]
) -> Flow[None]:
    """Emit each row of a list, page by page."""
    asked = {name: value for name, value in params.items() if value}
    while True:
        page = yield from ask(config, config.request("GET", path, params=asked))
        for row in page["results"]:
            yield Emit(read(row))
        # Only the cursor is taken, so that the key is sent to the address that was given.
        cursor = parse_qs(urlsplit(page["next"] or "").query).get("cursor")
        if not cursor:
            return
        asked["cursor"] = cursor[0]


def balance(config: Config) -> Flow[Balance]:
    """Return what can be spent."""
    return Balance.from_json((yield from ask(config, config.request("GET", "/v1/balance"))))


def download(config: Config, output: Output) -> Flow[bytes]:
    """Return the bytes of an output; its address is the permission, so no key is sent."""
    if output.url is None:
        raise errors.NotFound("This output was deleted.", status=404, code="not_found")
    request = Request("GET", output.url, timeout=config.timeout)
    return (yield from send(config, request)).body


def _of(vendor: str, name: str) -> str:
    return f"/v1/models/{quote(vendor, safe='')}/{quote(name, safe='')}"
