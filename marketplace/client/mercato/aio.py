"""The client on asyncio: `AsyncMercato` carries out the same operations as `Mercato`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import httpx

from mercato import errors, events, flows, http, uploads
from mercato.client import AGENT, RETRIES, TIMEOUT_S
from mercato.flows import Dollars
from mercato.models import Model
from mercato.steps import Emit, Flow, NextLine, Open, Reply, Request, Send, Sleep, Step, T, Work
from mercato.types import Balance, Event, File, Job, Output, Outputs, Quote
from mercato.wire import Config


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, http.CHUNK):
            yield chunk


async def _no_lines() -> AsyncIterator[str]:
    return
    yield ""  # makes it a generator


class _Carrier:
    """Carries out the steps of one operation."""

    def __init__(self, pool: httpx.AsyncClient) -> None:
        self._pool = pool
        self._opened: httpx.Response | None = None
        self._lines: AsyncIterator[str] = _no_lines()

    async def iterate(self, flow: Flow[T], ended: list[T]) -> AsyncGenerator[Any, None]:
        """Yield what the operation emits; put what it returns into `ended`."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Emit):
                    yield step.value
                    step = flow.send(None)
                    continue
                try:
                    answer = await self._perform(step)
                except errors.ConnectionFailed as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            ended.append(end.value)
        finally:
            flow.close()
            await self._close()

    async def _perform(self, step: Step) -> Any:
        if isinstance(step, Send):
            return await self._send(step.request)
        if isinstance(step, Open):
            return await self._open(step.request)
        if isinstance(step, NextLine):
            return await self._next_line()
        if isinstance(step, Work):
            return await asyncio.to_thread(step.does)
        if isinstance(step, Sleep):
            await asyncio.sleep(step.seconds)
        return None

    async def _send(self, request: Request) -> Reply:
        body = _chunks(request.body) if isinstance(request.body, Path) else request.body
        try:
            response = await self._pool.request(**http.arguments(request, body))
        except http.BROKEN as error:
            raise http.failure(request, error) from error
        return http.reply_of(response, response.content)

    async def _open(self, request: Request) -> Reply:
        await self._close()
        try:
            built = self._pool.build_request(**http.arguments(request, None))
            self._opened = response = await self._pool.send(built, stream=True)
            if response.status_code != 200:
                return http.reply_of(response, await response.aread())
        except http.BROKEN as error:
            raise http.failure(request, error) from error
        self._lines = response.aiter_lines()
        return http.reply_of(response, b"")

    async def _next_line(self) -> str | None:
        try:
            return await self._lines.__anext__()
        except StopAsyncIteration:
            return None
        except http.BROKEN as error:
            raise errors.ConnectionFailed(f"The stream of events broke: {error}.") from error

    async def _close(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None


class AsyncMercato:
    """A client of one market, for asyncio. Its methods are those of `Mercato`, to be awaited."""

    def __init__(
        self,
        key: str | None = None,
        *,
        url: str | None = None,
        timeout: float = TIMEOUT_S,
        max_retries: int = RETRIES,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self.config = Config.read(key, url, timeout, max_retries, AGENT)
        self._pool = http_client or httpx.AsyncClient()

    async def __aenter__(self) -> AsyncMercato:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncMercato(url={self.config.url!r})"

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    def _iterate(self, flow: Flow[Any]) -> AsyncIterator[Any]:
        return _Carrier(self._pool).iterate(flow, [])

    async def _do(self, flow: Flow[T], tell: Callable[[Any], object] | None = None) -> T:
        ended: list[T] = []
        async with contextlib.aclosing(_Carrier(self._pool).iterate(flow, ended)) as values:
            async for value in values:
                told = None if tell is None else tell(value)
                if inspect.isawaitable(told):
                    await told
        return ended[0]

    async def run(
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
        """Do what `Mercato.run` does. What `on_event` returns is awaited, if it can be."""
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
        return await self._do(flow, on_event)

    async def submit(
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
        """Do what `Mercato.submit` does."""
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
        return await self._do(flow)

    async def get(self, job: Job | str) -> Job:
        """Do what `Mercato.get` does."""
        return await self._do(flows.get(self.config, job))

    async def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Do what `Mercato.wait` does."""
        return await self._do(flows.wait(self.config, job, timeout))

    def iter_events(self, job: Job | str, *, previews: bool = False) -> AsyncIterator[Event]:
        """Do what `Mercato.iter_events` does."""
        return self._iterate(events.follow(self.config, job, previews=previews))

    async def cancel(self, job: Job | str) -> Job:
        """Do what `Mercato.cancel` does."""
        return await self._do(flows.cancel(self.config, job))

    def jobs(self, *, status: str = "", page_size: int = 50) -> AsyncIterator[Job]:
        """Do what `Mercato.jobs` does."""
        asked = {"status": status, "limit": str(page_size)}
        return self._iterate(flows.pages(self.config, "/v1/jobs", asked, Job.from_json))

    async def upload(
        self,
        file: str | Path | bytes | BinaryIO,
        *,
        name: str | None = None,
        content_type: str | None = None,
    ) -> File:
        """Do what `Mercato.upload` does."""
        source = await asyncio.to_thread(uploads.source_of, file, name, content_type)
        return await self._do(uploads.upload(self.config, source))

    async def quote(self, model: str, input: Mapping[str, Any] | None = None) -> Quote:  # noqa: A002
        """Do what `Mercato.quote` does."""
        return await self._do(flows.price(self.config, model, input))

    def models(
        self, search: str = "", *, task: str = "", page_size: int = 50
    ) -> AsyncIterator[Model]:
        """Do what `Mercato.models` does."""
        asked = {"search": search, "task": task, "limit": str(page_size)}
        return self._iterate(flows.pages(self.config, "/v1/models", asked, Model.from_json))

    async def model(self, ref: str) -> Model:
        """Do what `Mercato.model` does."""
        return await self._do(flows.model_get(self.config, ref))

    async def balance(self) -> Balance:
        """Do what `Mercato.balance` does."""
        return await self._do(flows.balance(self.config))


async def fetch(output: Output) -> bytes:
    """Return the bytes of an output, over a connection of its own."""
    async with AsyncMercato(key="", url=output.url) as client:
        return await client._do(flows.download(client.config, output))
