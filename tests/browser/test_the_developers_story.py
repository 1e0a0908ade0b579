"""A developer's whole story: visitor, account, playground, picture, key, API, invoice."""

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from marketplace.local.client import Client
from tests.browser.conftest import OUT
from tests.browser.story import SLOW_MS, Story, download, is_pdf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MODEL = "starter-lab/starter-image"
MOST_S = 120


def test_from_visitor_to_invoice(story: Story) -> None:
    page = story.dev
    runs = watch_and_run_again(page)
    key = story.key(page)
    quote = Client(story.market.url, key).post_json(
        f"/v1/models/{MODEL}/quote", {"input": {"prompt": "a green triangle"}}
    )
    job = story.call(key, MODEL, "a green triangle")
    assert 0 < job["charge_nano_usd"] <= quote["quote_nano_usd"]
    page.goto(f"/dashboard/jobs/{job['id']}/")
    expect(page.get_by_text("a green triangle").first).to_be_visible()
    expect(page.get_by_text("$0.004").first).to_be_visible()

    page.goto("/dashboard/invoices/preview/")
    line = page.get_by_role("row").filter(has_text=MODEL).first
    # Those in the playground, and one by the key.
    expect(line.get_by_role("cell", name=str(runs + 1), exact=True)).to_be_visible()
    pictures = runs - 2 + 2 * 4 + 1
    expect(line).to_contain_text(f"${pictures * 0.004:.3f}".rstrip("0"))
    told = story.manage("close_month", "--month", story.month, at=story.next_month)
    assert re.search(r"[1-9]\d* invoices issued", told), told
    page.goto("/dashboard/invoices/")
    issued = page.get_by_role("region", name="Issued invoices")
    assert is_pdf(download(page, issued.get_by_role("link", name=re.compile("^PDF of"))))
    issued.get_by_role("rowheader").get_by_role("link").click()
    expect(page.get_by_text(MODEL).first).to_be_visible()
    assert story.complaints == []
    assert story.took_s < MOST_S, "from sign-up to the first picture"


def watch_and_run_again(page: Any) -> int:
    """Watch a picture come, then run it again with its seed; returns how many runs there are."""
    page.goto(f"/models/{MODEL}/")
    runs = page.locator("#playground-runs li")
    before = int(runs.count())  # the first picture may have been another model's
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("a red circle on a white background")
    expect(page.locator("#quote")).to_contain_text("$0.004", timeout=SLOW_MS)
    # Enough work that the page sees a preview before it is over.
    page.get_by_label("Images", exact=True).fill("4")
    page.get_by_label("Steps", exact=True).fill("50")
    expect(page.get_by_label("Steps, slider")).to_have_value("50")
    page.get_by_role("button", name="Roll").click()
    seed = page.get_by_label("Seed").input_value()
    assert seed.isdecimal()
    page.get_by_text("Show as code").click()
    code = page.locator("#playground-code-curl")
    expect(code).to_contain_text("a red circle on a white", timeout=SLOW_MS)
    expect(code).to_contain_text(f'"seed": {seed}', timeout=SLOW_MS)

    prompt.focus()
    page.keyboard.press("Control+Enter")
    preview = page.locator(".pg-preview")
    expect(preview).to_be_visible(timeout=SLOW_MS)
    assert preview.get_attribute("src").startswith("data:image/webp;base64,")
    OUT.mkdir(parents=True, exist_ok=True)
    # Hiding the caret would put a style into the page, which our policy forbids.
    page.screenshot(path=OUT / "playground-preview.png", caret="initial")
    picture = page.get_by_alt_text("Output 1: a red circle on a white background")
    expect(picture).to_be_visible(timeout=SLOW_MS)
    expect(page.locator(".pg-cost")).to_contain_text(f"seed {seed}", timeout=SLOW_MS)
    expect(page.locator("#playground-say")).to_contain_text("Succeeded", timeout=SLOW_MS)
    first = picture.get_attribute("src")

    # The run is in the history at once, and fills the form again with its seed.
    expect(runs).to_have_count(before + 1, timeout=SLOW_MS)
    prompt.fill("something else")
    runs.first.get_by_role("link", name="Same seed").click()
    expect(prompt).to_have_value("a red circle on a white background", timeout=SLOW_MS)
    expect(page.get_by_label("Seed")).to_have_value(seed)
    assert "from=" in page.url
    page.get_by_label("Steps", exact=True).fill("8")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(runs).to_have_count(before + 2, timeout=SLOW_MS)
    assert picture.get_attribute("src") != first
    expect(page.locator(".pg-cost")).to_contain_text(f"seed {seed}")
    return before + 2
