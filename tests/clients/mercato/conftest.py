"""Our own client, pointed at the live server; each test of it runs for threads and for asyncio."""

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mercato import AsyncMercato, Mercato

Make = Callable[..., Any]
CLIENT = Path(__file__).parents[3] / "marketplace" / "client"


class OnLoop:
    """AsyncMercato, called as one calls Mercato: each call runs a loop until its end."""

    def __init__(self, **given: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._inner = AsyncMercato(**given)
        self.config = self._inner.config

    def __getattr__(self, name: str) -> Any:
        called = getattr(self._inner, name)

        def call(*args: Any, **options: Any) -> Any:
            made = called(*args, **options)
            if inspect.isasyncgen(made):
                return self._each(made)
            return self._loop.run_until_complete(made)

        return call

    def _each(self, made: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run_until_complete(made.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(made.aclose())

    def close(self) -> None:
        self._loop.run_until_complete(self._inner.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


@pytest.fixture(params=["sync", "async"])
def make_client(market: Any, request: Any, monkeypatch: Any) -> Iterator[Make]:
    """Make a client with Bob's key, or with what is said."""
    monkeypatch.setattr("mercato.wire._FIRST_PAUSE_S", 0.02)
    kind: Any = Mercato if request.param == "sync" else OnLoop
    made: list[Any] = []

    def make(**given: Any) -> Any:
        made.append(kind(**{"key": market.secret, "url": market.url} | given))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: Make) -> Any:
    """Bob's client."""
    return make_client()


@pytest.fixture
def env(market: Any, tmp_path: Path) -> dict[str, str]:
    """The environment of the command: nothing but the key and the address."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CLIENT),
        "HOME": str(tmp_path / "home"),
        "MERCATO_KEY": market.secret,
        "MERCATO_URL": market.url,
    }


@pytest.fixture
def start(env: dict[str, str], tmp_path: Path) -> Iterator[Make]:
    """Start the command in an empty folder."""
    (tmp_path / "here").mkdir()
    begun: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mercato", *map(str, arguments)]
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": -1,
            "stderr": -1,
            "text": True,
        } | more
        begun.append(subprocess.Popen(command, env=env, cwd=tmp_path / "here", **options))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


@pytest.fixture
def mercato(start: Make) -> Make:
    """Run the command to its end; it never shows a traceback."""

    def call(*arguments: object, code: int = 0, **more: Any) -> tuple[str, str]:
        process = start(*arguments, **more)
        out, said = process.communicate(timeout=60)
        assert "Traceback" not in said
        assert process.returncode == code, said
        return out, said

    return call
