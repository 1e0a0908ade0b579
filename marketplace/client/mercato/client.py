"""The client: `Mercato` carries the operations of `flows.py` out with blocking calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import httpx

from mercato import errors, events, flows, http, uploads
from mercato.flows import Dollars
from mercato.models import Model
from mercato.steps import Emit, Flow, NextLine, Open, Reply, Request, Send, Sleep, Step, T, Work
from mercato.types import Balance, Event, File, Job, Output, Outputs, Quote
from mercato.version import VERSION
from mercato.wire import Config

TIMEOUT_S = 60.0
RETRIES = 5
AGENT = f"mercato-python/{VERSION}"


class _Carrier:
    """Carries out the steps of one operation."""

    def __init__(self, pool: httpx.Client) -> None:
        self._pool = pool
        self._opened: httpx.Response | None = None
        self._lines: Iterator[str] = iter(())

    def iterate(self, flow: Flow[T], ended: list[T]) -> Iterator[Any]:
        """Yield what the operation emits; put what it returns into `ended`."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Emit):
                    yield step.value
                    step = flow.send(None)
                    continue
                try:
                    answer = self._perform(step)
                except errors.ConnectionFailed as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            ended.append(end.value)
        finally:
            flow.close()
            self._close()

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Send):
            return self._send(step.request)
        if isinstance(step, Open):
            return self._open(step.request)
        if isinstance(step, NextLine):
            return self._next_line()
        if isinstance(step, Work):
            return step.does()
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
        return None

    def _send(self, request: Request) -> Reply:
        try:
            if not isinstance(request.body, Path):
                response = self._pool.request(**http.arguments(request, request.body))
            else:
                with request.body.open("rb") as file:
                    response = self._pool.request(**http.arguments(request, file))
        except http.BROKEN as error:
            raise http.failure(request, error) from error
        return http.reply_of(response, response.content)

    def _open(self, request: Request) -> Reply:
        self._close()
        try:
            built = self._pool.build_request(**http.arguments(request, None))
            self._opened = response = self._pool.send(built, stream=True)
            if response.status_code != 200:
                return http.reply_of(response, response.read())
        except http.BROKEN as error:
            raise http.failure(request, error) from error
        self._lines = response.iter_lines()
        return http.reply_of(response, b"")

    def _next_line(self) -> str | None:
        try:
            return next(self._lines, None)
        except http.BROKEN as error:
            raise errors.ConnectionFailed(f"The stream of events broke: {error}.") from error

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class Mercato:
    """A client of one market, for blocking code. Threads may share it.

    `key` and `url` are by default what MERCATO_KEY and MERCATO_URL say. `timeout` is how long an
    answer may take, in seconds. What fails by a broken connection or with 429, 502, 503 or 504 is
    repeated up to `max_retries` times; a repeated submission never makes a second job.
    """

    def __init__(
        self,
        key: str | None = None,
        *,
        url: str | None = None,
        timeout: float = TIMEOUT_S,
        max_retries: int = RETRIES,
        http_client: httpx.Client | None = None,
    ) -> None:
        self.config = Config.read(key, url, timeout, max_retries, AGENT)
        self._pool = http_client or httpx.Client()

    def __enter__(self) -> Mercato:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Mercato(url={self.config.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _iterate(self, flow: Flow[Any]) -> Iterator[Any]:
        return _Carrier(self._pool).iterate(flow, [])

    def _do(self, flow: Flow[T], tell: Callable[[Any], object] | None = None) -> T:
        ended: list[T] = []
        for value in _Carrier(self._pool).iterate(flow, ended):
            if tell is not None:
                tell(value)
        return ended[0]

    def run(
        self,
        model: str,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        *,
        max_charge: Dollars | None = None,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        webhook_url: str | None = None,
        keep_s: int | None = None,
        start_within_s: float | None = None,
        priority: str | None = None,
        idempotency_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Outputs:
        """Submit, wait, and return what was made; `.job` of it is the call, with its cost.

        Paths, bytes and open files in `input` are uploaded first. The call is refused if it could
        cost more than `max_charge` dollars. `timeout` is in seconds, None waits as long as it
        takes. Input and outputs are deleted `keep_s` seconds after the end, if that is earlier
        than your organisation says; a job that no worker took in `start_within_s` seconds fails;
        with `priority="low"` it goes after all that are not. `extra` is added to the request's
        body. Calls with one `idempotency_key` are one job: give a file in them by the id of an
        upload, since a file is uploaded anew by each call. Raises JobFailed, JobCancelled,
        Timeout (the job goes on), ApiError, ConnectionFailed.
        """
        flow = flows.run(
            self.config,
            model,
            input,
            timeout=timeout,
            with_events=on_event is not None,
            max_charge=max_charge,
            webhook_url=webhook_url,
            keep_s=keep_s,
            start_within_s=start_within_s,
            priority=priority,
            idempotency_key=idempotency_key,
            extra=extra,
        )
        return self._do(flow, on_event)

    def submit(
        self,
        model: str,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        *,
        max_charge: Dollars | None = None,
        webhook_url: str | None = None,
        keep_s: int | None = None,
        start_within_s: float | None = None,
        priority: str | None = None,
        idempotency_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Job:
        """Submit a job and return it at once; otherwise as `run`."""
        flow = flows.submit(
            self.config,
            model,
            input,
            max_charge=max_charge,
            webhook_url=webhook_url,
            keep_s=keep_s,
            start_within_s=start_within_s,
            priority=priority,
            idempotency_key=idempotency_key,
            extra=extra,
        )
        return self._do(flow)

    def get(self, job: Job | str) -> Job:
        """Return a job as it is now, with fresh links to its outputs."""
        return self._do(flows.get(self.config, job))

    def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Return a job when it has ended, well or not. Raises Timeout after so many seconds."""
        return self._do(flows.wait(self.config, job, timeout))

    def iter_events(self, job: Job | str, *, previews: bool = False) -> Iterator[Event]:
        """Yield what happens to a job, until `done`; a broken stream goes on where it broke."""
        return self._iterate(events.follow(self.config, job, previews=previews))

    def cancel(self, job: Job | str) -> Job:
        """Cancel a job, free of charge; one that has ended is returned as it ended."""
        return self._do(flows.cancel(self.config, job))

    def jobs(self, *, status: str = "", page_size: int = 50) -> Iterator[Job]:
        """Yield the jobs of the organisation, newest first; pages are fetched on the way."""
        asked = {"status": status, "limit": str(page_size)}
        return self._iterate(flows.pages(self.config, "/v1/jobs", asked, Job.from_json))

    def upload(
        self,
        file: str | Path | bytes | BinaryIO,
        *,
        name: str | None = None,
        content_type: str | None = None,
    ) -> File:
        """Upload a file, and return it: its `id` goes into an input."""
        source = uploads.source_of(file, name, content_type)
        return self._do(uploads.upload(self.config, source))

    def quote(self, model: str, input: Mapping[str, Any] | None = None) -> Quote:  # noqa: A002
        """Return the most that a call can cost. Nothing is started or uploaded."""
        return self._do(flows.price(self.config, model, input))

    def models(self, search: str = "", *, task: str = "", page_size: int = 50) -> Iterator[Model]:
        """Yield the public models, newest first; pages are fetched on the way."""
        asked = {"search": search, "task": task, "limit": str(page_size)}
        return self._iterate(flows.pages(self.config, "/v1/models", asked, Model.from_json))

    def model(self, ref: str) -> Model:
        """Return a model (`vendor/name`, or `vendor/name:3`) with its inputs and its price."""
        return self._do(flows.model_get(self.config, ref))

    def balance(self) -> Balance:
        """Return what can be spent."""
        return self._do(flows.balance(self.config))


def fetch(output: Output) -> bytes:
    """Return the bytes of an output, over a connection of its own."""
    with Mercato(key="", url=output.url) as client:
        return client._do(flows.download(client.config, output))
