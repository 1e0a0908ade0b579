"""What a vendor learns of workers: load and its own part of it, nothing of anybody else."""

import json
import time

import pytest

from inference import protocol
from marketplace.core import valkey
from marketplace.jobs import services, vendor_fleet
from marketplace.jobs.models import Job
from tests.cast import listed_version, open_licence

pytestmark = pytest.mark.django_db


def beat(worker="gpu-7.internal", *, classes=("small",), busy=(), loaded=()):
    moment = time.time()
    return protocol.Heartbeat(
        worker_id=worker,
        hostname=worker,
        device="cuda",
        device_name="H100",
        memory_bytes=80 * 2**30,
        classes=list(classes),
        slots=4,
        busy=list(busy),
        loaded=list(loaded),
        started_at=moment - 60,
        at=moment,
    )


@pytest.fixture
def told():
    """Sends a worker's heartbeat, as workers do; forgotten after the test."""
    client = valkey.client()
    keys = []

    def tell(sent):
        client.sadd(protocol.WORKERS_KEY, sent.worker_id)
        client.set(protocol.worker_key(sent.worker_id), json.dumps(sent.to_dict()), px=10_000)
        keys.append(protocol.worker_key(sent.worker_id))

    client.delete(protocol.WORKERS_KEY)
    yield tell
    client.delete(protocol.WORKERS_KEY, *keys)


def submit(cast, ref):
    job, _ = services.job_submit(org=cast.developer, ref=ref, given={"prompt": "x"})
    return job


def test_load_queue_and_warm_versions_are_the_vendors_own(cast, told):
    theirs = listed_version(cast.stranger, open_licence(cast.stranger), cast.sam, name="theirs")
    mine, other = submit(cast, cast.ref), submit(cast, theirs.model.ref)
    submit(cast, cast.ref)
    Job.objects.filter(pk__in=[mine.pk, other.pk]).update(status="running")
    loaded = [str(cast.version.pk), str(theirs.pk)]
    told(beat(busy=[str(mine.pk), str(other.pk)], loaded=loaded))
    found = vendor_fleet.fleet_of(cast.vendor)
    [worker] = found.workers
    assert (worker.busy, worker.mine, worker.percent) == (2, 1, 50)
    assert worker.warm == [cast.version]
    assert "gpu-7" not in worker.name
    [queue] = found.queues
    assert (queue.name, queue.waiting, queue.workers) == ("small", 1, 1)


def test_workers_of_other_classes_are_not_shown(cast, told):
    told(beat(classes=["large"]))
    found = vendor_fleet.fleet_of(cast.vendor)
    assert found.workers == []
    assert found.queues[0].workers == 0


def test_who_sells_nothing_sees_no_worker(cast, told):
    told(beat())
    assert vendor_fleet.fleet_of(cast.developer) == vendor_fleet.OwnFleet([], [])
