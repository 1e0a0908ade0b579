"""The staff's whole story: review, refund and audit, of what vendors and customers have done."""

import pytest
from playwright.sync_api import expect

from tests.browser.story import Story

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_from_review_over_refund_to_audit(story: Story) -> None:
    page = story.staff
    page.get_by_label("Search everything").fill(story.sale["id"])
    page.get_by_role("button", name="Search").click()
    page.get_by_text("Charged $0.01").first.wait_for()
    page.get_by_label("Amount, USD").fill("0.005")
    page.get_by_label("Note").fill("Half of it was black.")
    page.get_by_role("button", name="Refund").click()
    page.get_by_text("$0.005 was given back.").wait_for()

    page.get_by_role("link", name="Audit", exact=True).click()
    for text in ("version.listed", "charge.refunded", "Half of it was black."):
        expect(page.get_by_text(text).first).to_be_visible()
    # The ledger is as sound after it as before.
    story.manage("audit")
    assert story.complaints == []
