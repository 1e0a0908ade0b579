"""A real browser against a real server process of these pages. Skipped where there is none."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from marketplace.core.storage import storage
from marketplace.local import market as local
from marketplace.local.processes import LocalError
from marketplace.local.valkey import free_port

OUT = Path(__file__).parents[2] / "out" / "browser"
START_S = 300.0
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def _chromium_open() -> Iterator[Any]:
    path = _chromium()
    if path is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) or set CHROMIUM")
    from playwright.sync_api import sync_playwright

    # Playwright runs an event loop in this thread; Django would refuse queries beside it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


_lasting: list[Any] = []


@pytest.fixture(scope="session")
def lasting_browser() -> Iterator[Any]:
    """Chromium, headless, for files that go on where another ended."""
    with _chromium_open() as opened:
        _lasting.append(opened)
        yield opened
        _lasting.clear()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless; closed after each file: other tests cannot bear its event loop."""
    if _lasting:
        yield _lasting[0]
        return
    with _chromium_open() as opened:
        yield opened


@pytest.fixture
def site(settings: Any, transactional_db: None, live_server: Any) -> Iterator[str]:
    """The address of a server with plain static files."""

    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.PUBLIC_URL = live_server.url
    settings.CSRF_TRUSTED_ORIGINS = [live_server.url]
    storage.cache_clear()  # its links begin with PUBLIC_URL
    yield str(live_server.url)
    storage.cache_clear()


SCREENS = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 360)}


def fits(page: Any, name: str) -> list[tuple[str, str]]:
    """Return on which screens the open page scrolls sideways; a picture of each goes to out/."""
    found = []
    for screen, (scheme, width) in SCREENS.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append((screen, name))
            OUT.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=OUT / f"{name}-{screen}.png", full_page=True)
    return found


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Save what a failed test saw: a picture tells more than the wait that ran out."""
    outcome: Any = yield
    given = getattr(item, "funcargs", {})
    opened = given.get("page")
    contexts = given["story"].browser.contexts if "story" in given else []
    if contexts and contexts[-1].pages:
        opened = contexts[-1].pages[-1]  # of whom came last
    if opened is not None and call.when == "call" and outcome.get_result().failed:
        OUT.mkdir(parents=True, exist_ok=True)
        opened.screenshot(path=OUT / f"failed-{item.name}.png", full_page=True)


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    """A fresh page; at its end no error may be on its console, and no rule of the CSP broken."""
    context = browser.new_context(base_url=site, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on(
        "console",
        lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None,
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.set_default_timeout(10_000)
    yield opened
    context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def story(lasting_browser: Any) -> Iterator[Any]:
    """One market for all stories, with its worker, which takes jobs at the test's beginning."""
    from tests.browser.story import Story

    var = Path(tempfile.mkdtemp(prefix="mercato-story-"))
    (var / "mail").mkdir()
    said: list[str] = []
    env = {
        "EMAIL_URL": f"filemail:///{var / 'mail'}",
        "PAYOUT_GRANTED": "always",  # the customer pays with the seed's credit
        "READS_PER_SECOND": "1000",
        "SWEEP_EVERY_S": "1",
        "WORKER_SLOTS": "2",
    }
    market = local.Market(var=var, port=free_port(), say=said.append, embedded=True, extra_env=env)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "READY_TIMEOUT_S", START_S)
        patch.setattr(local, "WORKER_TIMEOUT_S", START_S)
        try:
            market.start()
            yield Story(market, lasting_browser)
        except LocalError as error:
            pytest.fail("\n".join([str(error), error.detail, *said]))
        finally:
            market.stop()
            shutil.rmtree(var, ignore_errors=True)
