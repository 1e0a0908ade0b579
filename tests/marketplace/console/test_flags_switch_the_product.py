"""Staff switch features while the market runs, and each switch is written down."""

import pytest
from django.core.cache import caches
from django.test import Client
from django.urls import reverse

from inference import protocol
from marketplace.catalog import services as catalog
from marketplace.catalog.models import Status, Version
from marketplace.console.models import StaffAct
from marketplace.core import flags, valkey
from marketplace.core.errors import WrongState
from marketplace.jobs import services

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forget():
    """What a test switches, the next must not find in the process's memory."""
    caches["flags"].clear()
    yield
    caches["flags"].clear()


def switch(browser, name, state):
    answer = browser.post(f"/console/flags/{name}/", {"state": state})
    caches["flags"].clear()
    return answer


def test_sign_ups_can_be_closed(sam, client):
    assert "password1" in type(client)().get("/accounts/signup/").content.decode()
    switch(sam, flags.SIGN_UPS, "off")
    page = type(client)().get("/accounts/signup/").content.decode()
    assert "password1" not in page
    assert "losed" in page


def test_calls_can_be_stopped_and_taken_again(sam, cast, api):
    switch(sam, flags.CALLS, "off")
    answer = api.post("/v1/jobs", {"model": cast.ref, "input": {"prompt": "x"}}, format="json")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "calls_off"
    switch(sam, flags.CALLS, "on")
    services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})


def test_vendors_cannot_submit_while_listings_are_closed(sam, cast):
    Version.objects.filter(pk=cast.version.pk).update(status=Status.DRAFT)
    cast.version.refresh_from_db()
    switch(sam, flags.LISTINGS, "off")
    with pytest.raises(WrongState, match="not taken just now"):
        catalog.version_submit(version=cast.version)


def test_a_new_thing_can_be_on_for_staff_alone(sam, rf, cast):
    switch(sam, flags.PREVIEWS, "staff")
    request = rf.get("/")
    request.user = cast.bob
    assert not flags.is_on(flags.PREVIEWS, request)
    request.user = cast.sam
    assert flags.is_on(flags.PREVIEWS, request)
    switch(sam, flags.PREVIEWS, "on")
    request.user = cast.bob
    assert flags.is_on(flags.PREVIEWS, request)


def test_switching_is_written_down_and_needs_its_permission(sam, staff):
    assert switch(staff(), flags.CALLS, "off").status_code == 403
    assert switch(sam, flags.CALLS, "staff").status_code == 422
    assert switch(sam, "no-such-flag", "on").status_code == 404
    switch(sam, flags.CALLS, "off")
    act = StaffAct.objects.get()
    assert (act.verb, act.subject, act.note) == ("flag.switched", "calls", "off")
    assert "off" in sam.get("/console/flags/").content.decode()


def test_without_previews_the_worker_is_not_asked_for_any(sam, cast):
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    bob, key = Client(), protocol.watched_key(str(job.pk))
    bob.force_login(cast.bob)
    place = reverse("run-live", args=[job.pk])
    valkey.client().delete(key)
    switch(sam, flags.PREVIEWS, "off")
    assert bob.get(place, HTTP_HX_REQUEST="true").status_code == 200
    assert not valkey.client().exists(key)
    switch(sam, flags.PREVIEWS, "on")
    bob.get(place, HTTP_HX_REQUEST="true")
    assert valkey.client().exists(key)
