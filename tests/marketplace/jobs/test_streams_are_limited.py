"""A client can neither break an event stream by its headers nor hold endlessly many."""

import gc

import pytest
from django.core.signals import request_finished
from django.db import close_old_connections

from marketplace.core.errors import TooManyRequests
from marketplace.jobs import services, stream


@pytest.fixture
def job(cast):
    return services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})[0]


@pytest.mark.parametrize(
    ("given", "after"),
    [
        ("1700000000000-0", "1700000000000-0"),
        ("17", "17"),
        ("1-2-3", "0"),
        ("-", "0"),
        ("٣", "0"),
        ("1" * 21, "0"),
        ("1\n", "0"),
        ("", "0"),
    ],
)
def test_only_an_events_id_continues_a_stream(given, after):
    assert stream.continued_after(given) == after


def test_streams_of_one_organisation_are_limited(cast, api, job, settings):
    settings.STREAMS_PER_ORG = 2

    def follow():
        return stream.stream(org=cast.developer, job=job, last_event_id="", describe=lambda _: {})

    held = [follow(), follow()]
    refused = api.get(f"/v1/jobs/{job.pk}/events")
    assert (refused.status_code, refused["Retry-After"]) == (429, "10")
    assert refused.json()["error"]["code"] == "too_many_streams"
    request_finished.disconnect(close_old_connections)  # the test's own transaction goes on
    held[0].close()
    request_finished.connect(close_old_connections)
    held[0] = follow()
    with pytest.raises(TooManyRequests):
        follow()
    held.clear()
    gc.collect()
    assert follow().status_code == 200
