"""From an empty account to a version in review: the wizard, with a real run on a real worker."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from marketplace.local.market import Market
from marketplace.local.processes import LocalError
from marketplace.local.valkey import free_port
from tests.browser.conftest import OUT

pytestmark = pytest.mark.timeout(420)
PASSWORD = "correct horse battery staple"
SCREENS = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 360)}


@pytest.fixture
def market() -> Iterator[Market]:
    """A market of its own, with a worker."""
    var = Path(tempfile.mkdtemp(prefix="mercato-listing-"))
    mail = var / "mail"
    mail.mkdir()
    env = {"EMAIL_URL": f"filemail:///{mail}", "READS_PER_SECOND": "1000", "WORKER_SLOTS": "2"}
    running = Market(var=var, port=free_port(), say=lambda line: None, embedded=True, extra_env=env)
    try:
        running.start()
        yield running
    except LocalError as error:
        pytest.fail(f"{error}\n{error.detail}")
    finally:
        running.stop()
        shutil.rmtree(var, ignore_errors=True)


@pytest.fixture
def page(browser, market):
    """A fresh page on that market; at its end nothing may have been complained of."""
    context = browser.new_context(base_url=market.url, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on(
        "console",
        lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None,
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.set_default_timeout(20_000)
    yield opened
    context.close()
    assert complaints == []


def look(page, name):
    """Save the page on every screen; nothing may stick out."""
    OUT.mkdir(parents=True, exist_ok=True)
    for screen, (scheme, width) in SCREENS.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=OUT / f"listing-{name}-{screen}.png", full_page=True)
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), screen
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


def sign_up(page, market, address="vera@example.org"):
    page.goto("/accounts/signup/")
    page.get_by_label("Email").fill(address)
    page.get_by_label("Password").first.fill(PASSWORD)
    page.get_by_role("button", name="Sign Up").click()
    page.wait_for_url("**/confirm-email/")
    [mail] = (market.var / "mail").iterdir()
    text = mail.read_text().replace("=\n", "").replace("=3D", "=")
    page.goto(re.search(r"http://\S+/confirm-email/\S+", text)[0])
    page.get_by_role("button", name="Confirm").click()
    page.goto("/dashboard/organisations/new/")
    page.get_by_label("Name").fill("Vera Studio")
    page.get_by_role("button").last.click()


def test_from_an_empty_account_to_review(page, market):
    sign_up(page, market)
    page.goto("/vendor/")
    look(page, "empty")
    page.get_by_role("link", name="List your first model").click()
    page.get_by_label("Title").fill("Dusk")
    page.get_by_label("Name", exact=True).fill("dusk")
    page.get_by_label("Summary").fill("Shapes, as the sun goes down.")
    look(page, "1-about")
    page.get_by_role("button", name="Save and go on").click()

    page.get_by_label("Address").fill("starter:starter-image")
    look(page, "2-weights")
    page.get_by_role("button", name="Check and go on").click()

    schema = page.get_by_label("Input schema")
    schema.fill('{"type": "object", "properties": {"width": 3}}')
    page.get_by_text("properties.width").first.wait_for()
    side = '{"type": "integer", "const": 128, "default": 128}'
    schema.fill(
        '{"type": "object", "required": ["prompt"], "properties": {'
        '"prompt": {"type": "string", "minLength": 1, "title": "What to draw"}, '
        '"num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 20, "default": 4}, '
        f'"seed": {{"type": "integer", "minimum": 0}}, "width": {side}, "height": {side}}}}}'
    )
    page.get_by_label("What to draw").wait_for()
    look(page, "3-inputs")
    page.get_by_role("button", name="Save and go on").click()

    page.get_by_role("link", name="Write a licence").click()
    page.get_by_label("Title").fill("Vera's terms")
    page.get_by_label("Short name").fill("vera")
    page.get_by_label("Text").fill("Be kind.")
    page.get_by_role("button", name="Write").click()
    page.goto("/vendor/models/dusk/listing/")
    page.get_by_role("textbox", name="Made from").fill("starter-lab/starter-image:1")
    page.get_by_role("textbox", name="Made from").blur()
    page.get_by_text("Of a call for $1.00").wait_for()
    assert page.get_by_text("royalty for starter-lab/starter-image:1").first.is_visible()
    look(page, "4-terms")
    page.get_by_role("button", name="Save and go on").click()

    page.get_by_label("What to draw").fill("a red circle on a black background")
    page.get_by_role("button", name="Run a test").click()
    page.get_by_text("· charged $").wait_for(timeout=120_000)
    look(page, "5-test")
    page.get_by_role("link", name="Go on to the samples").click()
    page.get_by_role("button", name="Show this output").click()
    page.get_by_text("Cover", exact=True).wait_for()
    look(page, "6-samples")
    page.get_by_role("link", name="Go on to the price").click()

    page.get_by_label("Price in USD").fill("0.01")
    page.get_by_text("Left of the charge").wait_for()
    look(page, "7-price")
    page.get_by_role("button", name="Set it and go on").click()
    look(page, "8-review")
    page.get_by_role("button", name="Submit for review").click()
    page.get_by_role("heading", name="In review").wait_for()
    look(page, "9-in-review")
