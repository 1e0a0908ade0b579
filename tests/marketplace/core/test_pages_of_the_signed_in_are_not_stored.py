"""A page that knows who reads it is stored nowhere: not by a proxy, not in a browser's cache."""

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _plain(settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.mark.parametrize(
    "place", ["/", "/models/atelier/sketch/", "/pricing/", "/dashboard/", "/no/such/page/"]
)
def test_every_page_of_somebody_signed_in(cast, place):
    bob = Client()
    bob.force_login(cast.bob)
    said = {part.strip() for part in bob.get(place)["Cache-Control"].split(",")}
    assert {"private", "no-store"} <= said


def test_a_visitor_may_keep_a_page(cast):
    answer = Client().get("/models/atelier/sketch/")
    assert "no-store" not in answer.headers.get("Cache-Control", "")


def test_what_is_no_page_keeps_its_own_rule(cast):
    bob = Client()
    bob.force_login(cast.bob)
    assert "no-store" not in bob.get("/healthz").headers.get("Cache-Control", "")
