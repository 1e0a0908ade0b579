"""Where pages lead to is there for who is shown the link, and odd queries break no page."""

from html.parser import HTMLParser
from urllib.parse import quote, urldefrag, urljoin, urlsplit

import pytest
from django.test import override_settings
from django.urls import reverse

from billing.models import Charge
from marketplace.jobs.models import Job
from tests.pages.fixtures import market
from tests.pages.routes import Site

__all__ = ["market"]
pytestmark = [pytest.mark.django_db, pytest.mark.timeout(1800)]

NAMES = (
    "page", "before", "after", "days", "period", "month", "model", "from", "sample", "seed", "q",
    "o", "min", "max", "sort", "task", "status", "key", "code", "next", "since", "until", "to",
    "id", "kind", "state", "org", "by", "verb", "actor", "action", "name", "account", "source",
    "line", "calc-calls", "calc-num_images", "calc-prompt",
)  # fmt: skip
NIL = "00000000-0000-0000-0000-000000000000"
VALUES = ("nothing-like-it", "9" * 5000, "a\x00b", "²", "nan", "-1", "9999-12-31", NIL)
ODD = (*map(quote, VALUES), "%ff")  # the last is no UTF-8


class Links(HTMLParser):
    """Collects where the anchors of a page lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (href := dict(attrs).get("href")):
            self.found.append(href)


@pytest.fixture(scope="module")
def site(market):
    made = Site(market)
    for client in made.clients.values():
        client.raise_request_exception = False
    with override_settings(HEAVY_BURST=1_000_000):  # a 429 would hide what is behind it
        yield made


@pytest.fixture(scope="module")
def pages(site):
    return site.find()[0]


def test_every_link_leads_somewhere_for_who_is_shown_it(site, pages):
    """Each path once for each audience: queries differ by row, what answers does not."""
    # The market's months are charges without jobs; their pages link to them all the same.
    charged = Charge.objects.exclude(source_id__in=Job.objects.values("pk"))
    seen = {("bob", reverse("job", args=[row.source_id])) for row in charged}
    faults, expected = [], len(seen) + 200
    for page in pages:
        for href in Links(site.shown[page].content.decode()).found:
            target = urlsplit(urldefrag(urljoin(page.path, href)).url)
            if target.netloc or target.scheme or (page.audience, target.path) in seen:
                continue
            seen.add((page.audience, target.path))
            answer = site.clients[page.audience].get(target.geturl())
            if answer.status_code >= 400:
                faults.append(f"{page} {page.path}: {href} answers {answer.status_code}")
    assert len(seen) > expected  # links are found at all
    assert not faults, "\n".join(faults)


def breaking(client, path, value, names=NAMES):
    """Return which of `names`, given `value`, end in an error of ours.

    What refuses the query (a 404 for an unknown job) may hide what the others do: halve until
    each stands alone.
    """
    status = client.get(f"{path}?{'&'.join(f'{name}={value}' for name in names)}").status_code
    if status < 400:
        return []
    if len(names) == 1:
        return list(names) if status >= 500 else []
    half = len(names) // 2
    return breaking(client, path, value, names[:half]) + breaking(client, path, value, names[half:])


def faults_of(site, pages, values_of):
    """Return what breaks; `values_of` says which values the page with a number is given."""
    paths = {page.path.partition("?")[0]: page for page in reversed(pages)}
    return [
        f"{page} {path}?{name}={value[:40]}"
        for number, (path, page) in enumerate(sorted(paths.items()))
        for value in values_of(number)
        for name in breaking(site.clients[page.audience], path, value)
    ]


def test_odd_queries_break_no_page(site, pages):
    """Each page is given two of the values, and neighbours others: all of them take minutes."""
    count = len(ODD)
    faults = faults_of(site, pages, lambda number: {ODD[number % count], ODD[-number * 2 % count]})
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_all_odd_queries_break_no_page(site, pages):
    faults = faults_of(site, pages, lambda number: ODD)
    assert not faults, "\n".join(faults)
