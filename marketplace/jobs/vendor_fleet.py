"""The workers that can serve a vendor's models, as far as they are the vendor's business.

Who else's jobs run there and what a machine is called stays with staff.
"""

import hashlib
import hmac
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Min

from inference import protocol
from marketplace.accounts.models import Organisation
from marketplace.catalog.models import Status, Version
from marketplace.jobs.models import Job, JobStatus
from marketplace.jobs.workers import workers_alive


@dataclass(frozen=True, slots=True)
class OwnWorker:
    """One worker: `mine` of its `busy` slots run the vendor's models; `warm` are loaded ones."""

    name: str
    device: str
    memory_bytes: int
    classes: list[str]
    slots: int
    busy: int
    mine: int
    warm: list[Version]
    seen_at: datetime
    started_at: datetime

    @property
    def percent(self) -> int:
        """Return how much of it is in use."""
        return min(100 * self.busy // max(self.slots, 1), 100)


@dataclass(frozen=True, slots=True)
class OwnQueue:
    """The vendor's jobs that wait for a class of worker, and how many workers serve it."""

    name: str
    waiting: int
    oldest_at: datetime | None
    workers: int


@dataclass(frozen=True, slots=True)
class OwnFleet:
    """What serves a vendor's models now."""

    workers: list[OwnWorker]
    queues: list[OwnQueue]


def alias_of(org_id: uuid.UUID, worker_id: str) -> str:
    """Return the name that an organisation reads of a worker: its own names host and process."""
    key = hashlib.sha256(b"mercato.workers:" + settings.SECRET_KEY.encode()).digest()
    told = hmac.new(key, f"{org_id}:{worker_id}".encode(), hashlib.sha256).hexdigest()
    return f"worker-{told[:6]}"


def _worker(
    org: Organisation, beat: protocol.Heartbeat, mine: set[str], versions: dict[str, Version]
) -> OwnWorker:
    return OwnWorker(
        name=alias_of(org.pk, beat.worker_id),
        device=beat.device_name or beat.device,
        memory_bytes=beat.memory_bytes,
        classes=beat.classes,
        slots=beat.slots,
        busy=len(beat.busy),
        mine=len(mine.intersection(beat.busy)),
        warm=[versions[loaded] for loaded in beat.loaded if loaded in versions],
        seen_at=datetime.fromtimestamp(beat.at, tz=UTC),
        started_at=datetime.fromtimestamp(beat.started_at, tz=UTC),
    )


def fleet_of(org: Organisation) -> OwnFleet:
    """Return the workers and queues of the hardware classes that the vendor's versions ask for.

    Raises redis.exceptions.RedisError while Valkey is away.
    """
    rows = Version.objects.for_org(org).exclude(status=Status.SUSPENDED)
    versions = {str(row.pk): row for row in rows.select_related("model__org")[:1000]}
    classes = sorted({row.hardware_class for row in versions.values()})
    beats = [beat for beat in workers_alive() if set(beat.classes).intersection(classes)]
    busy = [job_id for beat in beats for job_id in beat.busy if len(job_id) == len(str(org.pk))]
    running = Job.objects.filter(pk__in=busy, version__model__org=org)
    mine = {str(pk) for pk in running.values_list("pk", flat=True)}
    waiting: dict[str, Any] = {
        row["queue"]: row
        for row in Job.objects.filter(status=JobStatus.QUEUED, version_id__in=list(versions))
        .order_by()
        .values("queue")
        .annotate(n=Count("pk"), oldest=Min("created_at"))
    }
    queues = []
    for name in classes:
        row = waiting.get(protocol.gpu_queue(name), {"n": 0, "oldest": None})
        serving = sum(name in beat.classes for beat in beats)
        queues.append(OwnQueue(name, row["n"], row["oldest"], serving))
    return OwnFleet([_worker(org, beat, mine, versions) for beat in beats], queues)
