"""One real market in which the stories play: people in a browser, keys over HTTP, real workers.

An act is played once, by the first story that needs it; the others go on from what it left.
"""

import re
import sys
import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from functools import cached_property
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from marketplace.local.client import Client
from marketplace.local.environment import REPOSITORY
from marketplace.local.market import Market
from marketplace.local.processes import run_to_end
from tests.browser.conftest import OUT, SCREENS

PASSWORD = "correct horse battery staple"
SLOW_MS = 120_000
JOB_S = 300.0
LINK = re.compile(r"http\S+/confirm-email/\S+")
# A command as `manage.py` runs it, by a clock that somebody has set.
AT = """
import sys
from datetime import datetime
import django
django.setup()
from django.core.management import call_command
from marketplace.core import clock
with clock.moved():
    clock.move_to(datetime.fromisoformat(sys.argv[1]))
    call_command(*sys.argv[2:])
"""


class Story:
    """A market, the browsers of those who come to it, and the acts that they have played."""

    def __init__(self, market: Market, browser: Any) -> None:
        self.market = market
        self.browser = browser
        self.month = datetime.now(UTC).strftime("%Y-%m")
        self.complaints: list[str] = []
        self.took_s = 0.0

    # Who comes

    def newcomer(self) -> Any:
        """Return a page of a browser that has never been here; errors of it are written down."""
        context = self.browser.new_context(
            base_url=self.market.url, viewport={"width": 1280, "height": 900}
        )
        page = context.new_page()
        page.set_default_timeout(SLOW_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)
        return page

    def _heard(self, line: Any) -> None:
        if line.type in ("error", "warning"):
            self.complaints.append(line.text)

    def signed_in(self, role: str) -> Any:
        """Return a page of somebody whom the seed has made."""
        page = self.newcomer()
        login = next(login for login in self.market.seed["logins"] if login["role"] == role)
        page.goto("/accounts/login/")
        page.fill("[name=login]", login["email"])
        page.fill("[name=password]", login["password"])
        page.click("form button")
        page.wait_for_url(lambda url: "/accounts/" not in url)
        return page

    def sign_up(self, page: Any, address: str) -> None:
        """Fill in the form that is open, and confirm the address by the link in the mail."""
        page.get_by_label("Email").fill(address)
        page.get_by_label("Password").first.fill(PASSWORD)
        page.get_by_role("button", name="Sign up", exact=True).click()
        page.get_by_role("heading", name="Look into your mail").wait_for()
        page.goto(self._link_to(address))
        page.get_by_role("button", name="Confirm").click()

    def _link_to(self, address: str) -> str:
        for file in (self.market.var / "mail").iterdir():
            mail = message_from_bytes(file.read_bytes(), policy=default)
            body = mail.get_body(("plain",))
            text = body.get_content() if body else ""
            if address in str(mail["To"]) and (found := LINK.search(text)):
                return str(found[0])
        raise AssertionError(f"no mail to {address}")

    # What the platform does at night

    def manage(self, *arguments: str, at: datetime | None = None) -> str:
        """Run a management command to its end, by the clock or as if it were `at`."""
        argv = [sys.executable, str(REPOSITORY / "manage.py"), *arguments]
        if at is not None:
            argv = [sys.executable, "-c", AT, at.isoformat(), *arguments]
        return run_to_end(arguments[0], argv, env=self.market.env, cwd=REPOSITORY)

    @property
    def next_month(self) -> datetime:
        """Return a moment in the month after the story's, when its last calls are settled."""
        first = datetime.fromisoformat(f"{self.month}-01").replace(tzinfo=UTC)
        return (first + timedelta(days=32)).replace(day=8)

    # The developer's acts

    @cached_property
    def dev(self) -> Any:
        """A visitor signs up on the front page and is led to a model with free credit."""
        page = self.newcomer()
        page.goto("/")
        assert page.locator(".stall-goods img, .stall-goods video").count() == 4
        began = time.monotonic()
        page.get_by_role("link", name="Start with $1.00 free").click()
        self.sign_up(page, "dev@example.org")
        page.wait_for_url("**/models/*/*/#try")
        assert page.get_by_text("You have $1.00 of free credit").is_visible()
        page.get_by_label("Prompt", exact=True).fill("a red circle above a blue square")
        page.get_by_role("button", name="Run", exact=True).click()
        picture = page.get_by_alt_text("Output 1: a red circle above a blue square")
        expect(picture).to_be_visible(timeout=SLOW_MS)
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
        self.took_s = time.monotonic() - began
        print(f"from sign-up to picture: {self.took_s:.1f} s")
        return page

    def key(self, page: Any) -> str:
        """Make a key on its page and copy it."""
        page.goto("/dashboard/keys/")
        page.get_by_label("Name").fill("my script")
        page.get_by_role("button", name="Make key").click()
        secret = str(page.locator("#secret").text_content())
        page.goto("/dashboard/keys/")
        assert page.locator("#secret").count() == 0
        return secret

    def call(self, key: str, model: str, prompt: str) -> dict[str, Any]:
        """Run a model through the API with a key, as a script does; returns the ended job."""
        api = Client(self.market.url, key)
        job = api.post_json("/v1/jobs", {"model": model, "input": {"prompt": prompt}})
        end = time.monotonic() + JOB_S
        while job["status"] not in ("succeeded", "failed", "cancelled"):
            assert time.monotonic() < end, job
            time.sleep(1)
            job = api.get(f"/v1/jobs/{job['id']}").json()
        assert job["status"] == "succeeded", job
        assert api.get(job["outputs"][0]["url"]).body.startswith(b"\x89PNG\r\n\x1a\n")
        found: dict[str, Any] = job
        return found

    # The vendor's acts

    @cached_property
    def vera(self) -> Any:
        """A vendor lists a model by the wizard, from an empty account to a version in review."""
        page = self.newcomer()
        page.goto("/accounts/signup/")
        self.sign_up(page, "vera@example.org")
        page.wait_for_url("**/models/*/*/#try")
        page.goto("/dashboard/organisations/new/")
        page.get_by_label("Name").fill("Vera Studio")
        page.get_by_role("button").last.click()
        page.wait_for_load_state()
        self._describe(page)
        self._license(page)
        self._test_run(page)
        page.get_by_label("Price in USD").fill("0.01")
        page.get_by_text("Left of the charge").wait_for()
        look(page, "7-price")
        page.get_by_role("button", name="Set it and go on").click()
        look(page, "8-review")
        page.get_by_role("button", name="Submit for review").click()
        page.get_by_role("heading", name="In review").wait_for()
        look(page, "9-in-review")
        return page

    def _describe(self, page: Any) -> None:
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
            '"num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 20, "default": 4},'
            ' "loras": {"type": "array", "maxItems": 2}, '
            f'"seed": {{"type": "integer", "minimum": 0}}, "width": {side}, "height": {side}}}}}'
        )
        page.get_by_label("What to draw").wait_for()
        page.get_by_label("LoRA 1", exact=True).wait_for()
        look(page, "3-inputs")
        page.get_by_role("button", name="Save and go on").click()

    def _license(self, page: Any) -> None:
        page.get_by_role("link", name="Write a licence").click()
        page.get_by_label("Title").fill("Vera's terms")
        page.get_by_label("Short name").fill("vera")
        page.get_by_label("Text").fill("Be kind.")
        page.get_by_role("button", name="Write").click()
        page.wait_for_load_state()
        page.goto("/vendor/models/dusk/listing/")
        page.get_by_role("textbox", name="Made from").fill("starter-lab/starter-image:1")
        page.get_by_role("textbox", name="Made from").blur()
        page.get_by_text("royalty for starter-lab/starter-image:1").first.wait_for()
        look(page, "4-terms")
        page.get_by_role("button", name="Save and go on").click()

    def _test_run(self, page: Any) -> None:
        page.get_by_label("What to draw").fill("a red circle on a black background")
        page.get_by_role("button", name="Run a test").click()
        # The model that hers is made from is paid for, and her organisation has no money.
        page.get_by_text("only $0.00 is available").wait_for()
        # The browser calls a refusal that was asked for an error.
        self.complaints = [line for line in self.complaints if "status of 422" not in line]
        self._credit("Vera Studio")
        page.get_by_role("button", name="Run a test").click()
        page.get_by_text("charged $0.004").wait_for(timeout=SLOW_MS)
        look(page, "5-test")
        page.get_by_role("link", name="Go on to the samples").click()
        page.get_by_role("button", name=re.compile("^Show this one")).click()
        page.get_by_text("Cover", exact=True).wait_for()
        look(page, "6-samples")
        page.get_by_role("link", name="Go on to the price").click()

    # The staff's acts

    def _credit(self, organisation: str) -> None:
        page = self.signed_in("staff")
        page.goto("/console/")
        page.get_by_label("Search everything").fill(organisation)
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name=organisation).first.click()
        page.get_by_text("Grant credit", exact=False).first.click()
        page.get_by_label("Grant credit, USD").fill("1")
        page.get_by_role("button", name="Book").click()
        page.get_by_text("$1.00 of $1.00").wait_for()

    @cached_property
    def staff(self) -> Any:
        """Staff open the console, find the vendor's version in the queue, and approve it."""
        assert self.vera
        page = self.signed_in("staff")
        page.goto("/console/")
        page.get_by_role("link", name="To review").click()
        page.get_by_role("link", name="Begin with the first").click()
        page.get_by_role("heading", name="vera-studio/dusk:1").wait_for()
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("was listed").wait_for()
        return page

    @cached_property
    def sale(self) -> dict[str, Any]:
        """A customer calls what the vendor listed, and is charged for it."""
        assert self.staff
        return self.call(self.market.seed["api_key"], "vera-studio/dusk", "a blue square")


def look(page: Any, name: str) -> None:
    """Save the page on every screen; nothing may stick out."""
    OUT.mkdir(parents=True, exist_ok=True)
    for screen, (scheme, width) in SCREENS.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=OUT / f"listing-{name}-{screen}.png", full_page=True, caret="initial")
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), screen
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


def download(page: Any, link: Any) -> bytes:
    """Click a link to a file and return what was downloaded."""
    with page.expect_download() as found:
        link.click()
    return Path(found.value.path()).read_bytes()


def is_pdf(body: bytes) -> bool:
    """Tell whether a file is a whole PDF."""
    return body.startswith(b"%PDF-") and body.rstrip().endswith(b"%%EOF")
