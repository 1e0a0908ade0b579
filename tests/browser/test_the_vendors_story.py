"""A vendor's whole story: wizard, test run, review, a customer's call, earning, statement."""

import pytest
from playwright.sync_api import expect

from tests.browser.story import Story, download, is_pdf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_from_an_empty_account_to_a_statement(story: Story) -> None:
    page = story.vera
    assert story.staff  # has approved it
    page.goto("/models/vera-studio/dusk/")
    page.get_by_role("heading", name="Dusk").first.wait_for()
    call = story.call(story.market.seed["api_key"], "vera-studio/dusk", "a teal triangle")
    assert call["charge_nano_usd"] == 10_000_000

    # 80 % of a cent by the licence, of which 15 points go to whose model it was made from.
    page.goto("/vendor/earnings/")
    row = page.get_by_role("row").filter(has_text=call["id"])
    expect(row).to_contain_text("$0.0065")
    told = story.manage("close_statements", "--month", story.month, at=story.next_month)
    assert "vera-studio" in told
    page.goto("/vendor/earnings/")
    statements = page.get_by_role("region", name="Statements")
    statements.get_by_role("rowheader").get_by_role("link").click()
    lines = page.get_by_role("row").filter(has_text="vera-studio/dusk")
    expect(lines.first).to_be_visible()
    assert is_pdf(download(page, page.get_by_role("link", name="PDF", exact=True)))
    calls = download(page, page.get_by_role("link", name="CSV of every call")).decode()
    assert call["id"] in calls
    assert story.complaints == []
