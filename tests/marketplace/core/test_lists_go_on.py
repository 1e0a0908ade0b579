"""A list longer than a page goes on: no row is skipped and none is shown twice."""

import pytest

from marketplace.accounts.models import Project
from marketplace.core.keyset import links, page_of


@pytest.mark.parametrize("newest", [True, False])
def test_the_pages_are_the_list(cast, newest):
    for number in range(7):
        Project.objects.create(org=cast.developer, name=f"project {number}")
    rows, seen, cursor = Project.objects.for_org(cast.developer), [], ""
    while True:
        page, cursor = page_of(rows, cursor, by="created_at", size=3, newest=newest)
        seen += page
        if not cursor:
            break
    order = "-created_at" if newest else "created_at"
    assert seen == list(rows.order_by(order, "-pk" if newest else "pk"))


@pytest.mark.parametrize("cursor", ["nonsense", "9" * 5000, "0" * 32])
def test_a_cursor_that_names_no_row_is_the_first_page(cast, cursor):
    rows = Project.objects.for_org(cast.developer)
    assert page_of(rows, cursor, by="created_at", size=3) == page_of(
        rows, "", by="created_at", size=3
    )


def test_links_keep_the_filters(rf):
    found = links(rf.get("/list/?state=open&before=5"), 9)
    assert found == {"newer": "/list/?state=open", "older": "/list/?state=open&before=9"}
    assert links(rf.get("/list/"), "") == {"newer": "", "older": ""}
