"""The vendor's pages of rollout, analytics and workers: what they do, whom they answer."""

from decimal import Decimal

import pytest
import redis

from marketplace.catalog import services
from marketplace.catalog.rollout_models import Retirement, Rollout, RolloutEvent
from marketplace.core import valkey
from tests.cast import SCHEMA

HERE = "/vendor/models/sketch/rollout/"


@pytest.fixture
def second(cast):
    version = services.version_create(
        model=cast.version.model,
        weights_uri="starter:starter-image",
        weights_digest="sha256:" + "1" * 64,
        family="flux",
        input_schema=SCHEMA,
        licence=cast.licence,
    )
    services.price_set(version=version, unit="image", unit_price=Decimal("0.004"))
    services.version_submit(version=version)
    version.refresh_from_db()
    return services.version_decide(version=version, after="listed", by=cast.sam)


def test_a_canary_is_begun_promoted_and_rolled_back_on_the_page(alice, cast, second):
    data = {"action": "canary", "version": "2", "percent": "10"}
    page = alice.post(HERE, data, follow=True).content.decode()
    assert "10 % of your customers" in page
    assert "Roll back to version 1" in page
    page = alice.post(HERE, {"action": "roll-back"}, follow=True).content.decode()
    assert "Everybody gets version 1" in page
    alice.post(f"{HERE}promote/2/")
    rollout = Rollout.objects.get()
    assert (rollout.stable, rollout.canary) == (second, None)
    page = alice.get(HERE).content.decode()
    for line in ("Canary: version 2, 10 %", "Roll back: version 2", "alice@example.org"):
        assert line in page


def test_promoting_asks_first_on_a_page_of_its_own(alice, cast, second):
    asked = f"{HERE}promote/2/"
    alice.post(HERE, {"action": "canary", "version": "2", "percent": "10"})
    assert alice.get(HERE).content.decode().count(f'href="{asked}"') == 2
    page = alice.get(asked).content.decode()
    assert "Give everybody version 2?" in page
    assert "$0.004 per image" in page
    assert Rollout.objects.get().stable == cast.version  # asking changed nothing
    assert "There is no such action" in _said(alice, HERE, action="promote", version="2")
    assert "Everybody who names no number gets version 2." in _said(alice, asked)
    assert Rollout.objects.get().stable == second


def test_what_cannot_be_called_is_not_promoted(alice, cast, second):
    second.status = "suspended"
    second.save()
    asked = f"{HERE}promote/2/"
    page = alice.get(asked).content.decode()
    assert "cannot be promoted" in page
    assert "<button" not in page.partition("<h1>")[2]
    assert "Only a listed version can be promoted." in _said(alice, asked)
    assert "Everybody gets version 1 already." in alice.get(f"{HERE}promote/1/").content.decode()
    assert alice.get(f"{HERE}promote/9/").status_code == 404
    assert not Rollout.objects.exists()


def _said(client, address, **given):
    return client.post(address, given, follow=True).content.decode()


def test_a_note_that_cannot_be_shown_is_made_plain_and_short(alice, cast, second):
    alice.post(HERE, {"action": "canary", "version": "2", "percent": "10"})
    alice.post(HERE, {"action": "roll-back", "note": "too\x00slow " + "x" * 400})
    note = RolloutEvent.objects.latest("created_at").note
    assert note.startswith("too slow x")
    assert len(note) == 300


def test_a_version_is_withdrawn_with_a_date_and_kept_again(alice, cast, second):
    data = {"action": "deprecate", "version": "1", "ends_on": "2199-01-31", "note": "Use 2."}
    page = alice.post(HERE, data, follow=True).content.decode()
    assert "1 Feb 2199, 00:00 UTC" in page
    assert "Use 2." in page
    alice.post(HERE, {"action": "keep", "version": "1"})
    assert not Retirement.objects.exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"action": "canary", "version": "2", "percent": "0"}, "1 to 99 %"),
        ({"action": "canary", "version": "2", "percent": "x"}, "1 to 99 %"),
        ({"action": "canary", "version": "99", "percent": "5"}, "There is no version 99"),
        ({"action": "keep", "version": ""}, "Name a version."),
        ({"action": "deprecate", "version": "1", "ends_on": "soon"}, "Name the last day."),
        (
            {"action": "deprecate", "version": "1", "ends_on": "9999-12-31"},
            "between the years 2000 and 2200",
        ),
        ({"action": "deprecate", "version": "1", "ends_on": "2001-01-01"}, "Name a day to come"),
        ({"action": "roll-back"}, "no canary"),
        ({"action": "explode", "version": "1"}, "There is no such action."),
    ],
)
def test_what_makes_no_sense_is_said(alice, cast, second, data, said):
    page = alice.post(HERE, data, follow=True).content.decode()
    assert said in page
    assert not Rollout.objects.exists()


def test_a_stranger_neither_reads_nor_changes_a_rollout(charlie, cast, second):
    assert charlie.get(HERE).status_code == 404
    data = {"action": "canary", "version": "2", "percent": "10"}
    assert charlie.post(HERE, data).status_code == 404
    assert charlie.get(f"{HERE}promote/2/").status_code == 404
    assert charlie.post(f"{HERE}promote/2/").status_code == 404
    assert not Rollout.objects.exists()


def test_analytics_show_the_vendors_calls_to_the_vendor_alone(alice, charlie, cast, make_job):
    for _ in range(10):
        make_job("succeeded")
    make_job("failed")
    page = alice.get("/vendor/analytics/?days=7").content.decode()
    assert "$0.04" in page
    assert "9.1 %" in page
    assert "Customer " in page
    assert "Bob" not in page
    assert "builders" not in page
    assert "atelier/sketch:1" in page
    theirs = charlie.get("/vendor/analytics/?model=sketch").content.decode()
    assert "Nothing to count yet" in theirs


def test_the_pages_are_few_queries(alice, cast, make_job, second, django_assert_max_num_queries):
    make_job("succeeded")
    for address in (HERE, f"{HERE}promote/2/", "/vendor/analytics/", "/vendor/workers/"):
        with django_assert_max_num_queries(20):
            assert alice.get(address).status_code == 200


def test_without_valkey_the_workers_page_says_so(alice, cast, monkeypatch):
    away = redis.Redis(host="127.0.0.1", port=9, socket_connect_timeout=1)
    monkeypatch.setattr(valkey, "client", lambda: away)
    assert "cannot be asked just now" in alice.get("/vendor/workers/").content.decode()


def test_the_last_day_of_the_calendar_is_refused_in_words(alice, cast, second):
    data = {"action": "deprecate", "version": "1", "ends_on": "9999-12-31", "note": ""}
    page = alice.post(HERE, data, follow=True).content.decode()
    assert "between the years 2000 and 2200" in page
