"""On a phone the row of sections scrolls: it begins where the reader is, and the page stays put."""

import pytest

from tests.cast import make_cast

INSIDE = """() => {
  const link = document.querySelector(".rail [aria-current]").getBoundingClientRect();
  return link.left >= 0 && link.right <= innerWidth && scrollY === 0 && scrollX === 0;
}"""


@pytest.mark.parametrize("address", ["/dashboard/", "/dashboard/budgets/", "/dashboard/settings/"])
def test_the_row_of_sections_begins_at_the_current_one(page, site, client, address):
    client.force_login(make_cast().bob)
    cookie = client.cookies["sessionid"]
    page.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": site}])
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(address)
    page.wait_for_function("() => document.documentElement.classList.contains('scripted')")
    assert page.evaluate(INSIDE)
