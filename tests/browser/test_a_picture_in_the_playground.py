"""The playground on a whole market: a real worker draws with the starter, and previews arrive."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from marketplace.local.market import Market
from marketplace.local.valkey import free_port
from tests.browser.conftest import OUT

MODEL = "/models/starter-lab/starter-image/"
SLOW_MS = 60_000
# A whole market starts for it, which a busy machine takes minutes for.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def market() -> Iterator[Market]:
    """A market of its own, with its worker."""
    var = Path(tempfile.mkdtemp(prefix="mercato-playground-"))
    running = Market(var=var, port=free_port(), say=lambda _: None, embedded=True)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(var, ignore_errors=True)


@pytest.fixture
def tab(browser: Any, market: Market) -> Iterator[Any]:
    """A page of the demo's developer; nothing may complain on its console."""
    context = browser.new_context(base_url=market.url, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None,
    )
    developer = next(login for login in market.seed["logins"] if login["role"] == "developer")
    page.goto("/accounts/login/")
    page.fill("[name=login]", developer["email"])
    page.fill("[name=password]", developer["password"])
    page.click("form button")
    page.wait_for_url("**/dashboard/**")
    yield page
    context.close()
    assert complaints == []


def test_a_picture_is_watched_and_run_again(tab: Any) -> None:
    tab.goto(MODEL)
    prompt = tab.get_by_label("Prompt", exact=True)
    prompt.fill("a red circle on a white background")
    expect(tab.locator("#quote")).to_contain_text("$0.004")
    tab.get_by_label("Steps", exact=True).fill("50")
    expect(tab.get_by_label("Steps, slider")).to_have_value("50")
    tab.get_by_role("button", name="Roll").click()
    seed = tab.get_by_label("Seed").input_value()
    assert seed.isdecimal()
    tab.get_by_text("Show as code").click()
    expect(tab.locator("#playground-code-curl")).to_contain_text("a red circle on a white")
    expect(tab.locator("#playground-code-curl")).to_contain_text(f'"seed": {seed}')

    prompt.focus()
    tab.keyboard.press("Control+Enter")
    expect(tab.locator(".pg-preview")).to_be_visible(timeout=SLOW_MS)
    source = tab.locator(".pg-preview").get_attribute("src")
    assert source.startswith("data:image/webp;base64,")
    OUT.mkdir(parents=True, exist_ok=True)
    # Hiding the caret would put a style into the page, which our policy forbids.
    tab.screenshot(path=OUT / "playground-preview.png", caret="initial")
    picture = tab.get_by_alt_text("Output 1: a red circle on a white background")
    expect(picture).to_be_visible(timeout=SLOW_MS)
    expect(tab.locator(".pg-cost")).to_contain_text(f"seed {seed}")
    expect(tab.locator("#playground-say")).to_contain_text("Succeeded")
    first = picture.get_attribute("src")

    # The run is in the history at once, and fills the form again with its seed.
    runs = tab.locator("#playground-runs li")
    expect(runs).to_have_count(1)
    prompt.fill("something else")
    runs.get_by_role("link", name="Same seed").click()
    expect(prompt).to_have_value("a red circle on a white background")
    expect(tab.get_by_label("Seed")).to_have_value(seed)
    assert "from=" in tab.url
    tab.get_by_label("Steps", exact=True).fill("8")
    tab.get_by_role("button", name="Run", exact=True).click()
    expect(tab.locator("#playground-runs li")).to_have_count(2, timeout=SLOW_MS)
    assert picture.get_attribute("src") != first
    expect(tab.locator(".pg-cost")).to_contain_text(f"seed {seed}")
