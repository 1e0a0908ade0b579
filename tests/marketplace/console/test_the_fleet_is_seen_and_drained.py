"""The fleet's page shows live workers and queues; staff drain a worker, and may undo it."""

import json
import time

import pytest

from inference import protocol
from marketplace.console.models import StaffAct
from marketplace.core import valkey
from marketplace.jobs import services

pytestmark = pytest.mark.django_db


@pytest.fixture
def beat(cast):
    client = valkey.client()
    client.flushdb()
    made = protocol.Heartbeat(
        worker_id="w-1", hostname="box", device="cuda", device_name="A card",
        memory_bytes=2**34, classes=["small"], slots=4, busy=[str(cast.key.pk)],
        loaded=[str(cast.version.pk)], started_at=time.time() - 90, at=time.time(),
        memory_used_bytes=2**33, samples=6, load=[0, 50, 100],
    )  # fmt: skip
    client.sadd(protocol.WORKERS_KEY, "w-1")
    client.set(protocol.worker_key("w-1"), json.dumps(made.to_dict()), px=10_000)
    yield made
    client.flushdb()


def test_workers_and_queues_are_shown(sam, beat, cast):
    services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    page = sam.get("/console/fleet/").content.decode()
    for part in (
        "w-1",
        "A card",
        "8.0 GiB",
        "1 of 4",
        "6 samples",
        "0, 50, 100",
        str(cast.version),
    ):
        assert part in page
    queue = sam.get("/console/fleet/").context["queues"][0]
    assert (queue["name"], queue["waiting"], queue["workers"]) == ("small", 1, 1)
    part = sam.get("/console/fleet/", HTTP_HX_REQUEST="true").content.decode()
    assert "w-1" in part
    assert "<html" not in part


def test_draining_tells_this_process_and_can_be_undone(staff, beat):
    browser = staff("drain_worker")
    key = protocol.drain_key("w-1")
    browser.post("/console/fleet/w-1/drain/")
    assert valkey.client().get(key) == str(beat.started_at)
    assert "told to drain" in browser.get("/console/fleet/").content.decode()
    browser.post("/console/fleet/w-1/drain/", {"undo": "1"})
    assert valkey.client().get(key) == protocol.DRAIN_UNDONE
    assert list(StaffAct.objects.values_list("verb", flat=True)) == [
        "worker.kept",
        "worker.drained",
    ]


def test_draining_needs_its_permission_and_a_worker(staff, sam, beat):
    assert staff().post("/console/fleet/w-1/drain/").status_code == 403
    assert sam.post("/console/fleet/w-2/drain/").status_code == 404


def test_a_beat_whose_name_fits_no_address_is_left_out(sam, beat):
    client, name = valkey.client(), "rack/1"
    told = json.dumps({**beat.to_dict(), "worker_id": name})
    client.sadd(protocol.WORKERS_KEY, name)
    client.set(protocol.worker_key(name), told, px=10_000)
    answer = sam.get("/console/fleet/")
    assert answer.status_code == 200
    assert [row["beat"].worker_id for row in answer.context["workers"]] == ["w-1"]
