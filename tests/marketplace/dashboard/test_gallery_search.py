"""The gallery's filters and orders: what fits is shown, in its order, and addresses keep it."""

import re
from datetime import timedelta

import pytest

from marketplace.catalog import services as catalog
from marketplace.catalog.standing_models import Standing
from marketplace.core.clock import now
from marketplace.jobs import standings
from marketplace.jobs.models import Job
from tests.cast import listed_version

HTMX = {"HX-Request": "true", "HX-Target": "results"}


def licence(org, slug, kind, royalty=0):
    return catalog.licence_create(
        org=org,
        slug=slug,
        title=slug.title(),
        kind=kind,
        text="Terms.",
        revenue_share_bps=8000,
        royalty_bps=royalty,
    )


@pytest.fixture
def market(cast):
    """Four models: sketch (open, $0.004), and three of other terms, prices and tasks."""
    org, sam = cast.vendor, cast.sam
    paid, free = licence(org, "studio", "commercial"), licence(org, "home", "non-commercial")
    listed_version(org, paid, sam, name="portraits", price="0.05")
    listed_version(org, free, sam, name="doodles", price="0")
    listed_version(org, paid, sam, name="motion", price="0.5", task="text-to-video", family="wan")
    standings.standings_refresh()
    return cast


def names(answer):
    return re.findall(r'<h3><a href="/models/atelier/([a-z]+)/">', answer.content.decode())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"sketch", "portraits", "doodles", "motion"}),
        ("?q=portrait", {"portraits"}),
        ("?q=doodling", {"doodles"}),  # a form of the word
        ("?q=atelier+motion", {"motion"}),
        ("?q=nothing+like+it", set()),
        ("?task=text-to-video", {"motion"}),
        ("?licence=commercial", {"sketch", "portraits", "motion"}),
        ("?licence=open", {"sketch"}),
        ("?licence=build", {"sketch"}),
        ("?price=0", {"doodles"}),
        ("?price=0.005", {"sketch", "doodles"}),
        ("?price=0.005&licence=commercial", {"sketch"}),
        ("?speed=1", set()),  # nothing has run yet
        ("?task=poetry&price=cheap&sort=best", {"sketch", "portraits", "doodles", "motion"}),
    ],
)
def test_what_fits_is_shown(visitor, market, query, found):
    assert set(names(visitor.get(f"/{query}"))) == found


def test_cheapest_is_by_the_price_of_one_output(visitor, market):
    assert names(visitor.get("/?sort=cheapest")) == ["doodles", "sketch", "portraits", "motion"]


def test_newest_is_by_age(visitor, market):
    assert names(visitor.get("/?sort=newest")) == ["motion", "doodles", "portraits", "sketch"]


def test_popular_counts_calls_of_others_and_fast_is_the_middle_run(visitor, market, make_job):
    for _ in range(3):
        make_job()
    moment = now()
    Job.objects.update(started_at=moment - timedelta(milliseconds=700), finished_at=moment)
    standings.standings_refresh()
    standing = Standing.objects.get(model__name="sketch")
    assert standing.calls_per_day == pytest.approx(3 / 30)
    assert standing.median_ms == 700
    assert standing.output_nano == 4_000_000
    assert names(visitor.get("/"))[0] == "sketch"
    assert names(visitor.get("/?speed=1")) == ["sketch"]
    assert names(visitor.get("/?sort=fastest"))[0] == "sketch"
    assert b"0.70 s" in visitor.get("/").content


def test_a_vendors_own_calls_make_nothing_popular(market, make_job):
    make_job()
    Job.objects.update(org=market.vendor)
    standings.standings_refresh()
    assert Standing.objects.get(model__name="sketch").calls_per_day == 0


def test_a_model_that_is_listed_no_more_loses_its_standing(market):
    market.version.model.visibility = "private"
    market.version.model.save()
    standings.standings_refresh()
    assert not Standing.objects.filter(model__name="sketch").exists()


def test_while_somebody_types_only_the_results_come_with_an_address_to_share(visitor, market):
    answer = visitor.get("/?q=motion&task=&licence=&price=&speed=&sort=popular", headers=HTMX)
    assert b"<html" not in answer.content
    assert names(answer) == ["motion"]
    assert answer["HX-Push-Url"] == "/?q=motion&sort=popular"
    assert "HX-Request" in answer["Vary"]


def test_what_narrows_is_named_and_each_part_can_be_dropped(visitor, market):
    page = visitor.get("/?q=sketch&licence=open&page=1").content.decode()
    assert 'href="/?q=sketch"' in page
    assert 'href="/?licence=open"' in page
    assert "Open licence" in page


def test_nothing_found_says_how_to_go_on(visitor, market):
    page = visitor.get("/?q=zebra").content.decode()
    assert "No model fits" in page
    assert "Show all models" in page


def test_pages_keep_what_was_asked(visitor, cast):
    for number in range(25):
        listed_version(cast.vendor, cast.licence, cast.sam, name=f"more{number}")
    standings.standings_refresh()
    first = visitor.get("/?licence=open&sort=newest")
    assert first.content.decode().count("<article") == 24
    assert b'href="?licence=open&amp;sort=newest&amp;page=2"' in first.content
    assert visitor.get("/?licence=open&sort=newest&page=2").content.decode().count("<article") == 2


def test_a_search_for_script_is_text(visitor, market):
    page = visitor.get("/?q=<script>alert(1)</script>").content
    assert b"<script>alert" not in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["motion", "doodles", "portraits", "sketch"]),
        ("?search=portraits", ["portraits"]),
        ("?licence=open", ["sketch"]),
        ("?max_output_usd=0.005", ["doodles", "sketch"]),
        ("?task=text-to-video&licence=commercial", ["motion"]),
    ],
)
def test_the_api_filters_alike(client, market, query, found):
    rows = client.get(f"/v1/models{query}").json()["results"]
    assert [row["name"] for row in rows] == found


def test_the_api_refuses_what_is_no_amount(client, market):
    answer = client.get("/v1/models?max_output_usd=cheap")
    assert answer.status_code == 422
    assert "max_output_usd" in answer.json()["error"]["fields"]


def test_prices_are_shown_before_and_after_the_first_measurement(visitor, cast):
    assert b"by input" in visitor.get("/pricing/").content
    standings.standings_refresh()
    page = visitor.get("/pricing/").content
    assert b'<td class="num">$0.004</td>' in page
    assert b'<td class="num">$4.00</td>' in page
