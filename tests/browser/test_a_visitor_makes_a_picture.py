"""The first two minutes in a real browser and a real market: sign up, confirm, run, see it."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marketplace.local.market import Market
from marketplace.local.processes import LocalError
from marketplace.local.valkey import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LINK = re.compile(r"http\S+/accounts/confirm-email/\S+")
MOST_S = 120


@pytest.fixture(scope="module")
def market() -> Iterator[Market]:
    """A market with the models that ship and the worker that draws with them."""
    var = Path(tempfile.mkdtemp(prefix="mercato-visitor-"))
    said: list[str] = []
    running = Market(var=var, port=free_port(), say=said.append, embedded=True)
    try:
        running.start()
        yield running
    except LocalError as error:
        pytest.fail("\n".join([str(error), error.detail, *said]))
    finally:
        running.stop()
        shutil.rmtree(var, ignore_errors=True)


def link_in_mail(market: Market) -> str:
    """Return the link of the last mail: this market prints its mails into a log."""
    log = market.var / "log" / "web.log"
    for _ in range(100):
        if found := LINK.findall(log.read_text()):
            return str(found[-1])
        time.sleep(0.1)
    pytest.fail("no mail was printed")


def test_from_visitor_to_picture_in_two_minutes(browser: Any, market: Market) -> None:
    context = browser.new_context(base_url=market.url)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda line: line.type == "error" and complaints.append(line.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(60_000)

    page.goto("/")
    assert page.locator(".stall-goods img, .stall-goods video").count() == 4
    began = time.monotonic()
    page.get_by_role("link", name="Start with $1.00 free").click()
    page.get_by_label("Email").fill("visitor@example.org")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign up").click()
    page.get_by_role("heading", name="Look into your mail").wait_for()
    page.goto(link_in_mail(market))
    page.get_by_role("button", name="Confirm").click()

    page.wait_for_url("**/models/*/*/#try")
    assert page.get_by_text("You have $1.00 of free credit").is_visible()
    page.get_by_label("Prompt", exact=True).fill("a red circle above a blue square")
    page.get_by_role("button", name="Run", exact=True).click()
    picture = page.locator("img[src*='/files/']").first
    picture.wait_for(timeout=90_000)
    took = time.monotonic() - began
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
    context.close()
    print(f"from sign-up to picture: {took:.1f} s")
    assert took < MOST_S
    assert complaints == []
