"""The fleet as its heartbeats in Valkey tell it."""

import json
from typing import Any

from inference import protocol
from marketplace.core import valkey
from marketplace.jobs.models import Job


def workers_alive() -> list[protocol.Heartbeat]:
    """Return the latest heartbeat of every live worker; forget those that have expired."""
    client: Any = valkey.client()
    ids = sorted(client.smembers(protocol.WORKERS_KEY))
    if not ids:
        return []
    beats: list[protocol.Heartbeat] = []
    for worker_id, raw in zip(
        ids, client.mget([protocol.worker_key(worker) for worker in ids]), strict=True
    ):
        if raw is None:
            client.srem(protocol.WORKERS_KEY, worker_id)
            continue
        try:
            beats.append(protocol.Heartbeat.from_dict(json.loads(raw)))
        except ValueError:
            continue  # a worker of another version; its jobs are still judged by `missing`
    return beats


def reported(jobs: list[Job]) -> set[object]:
    """Return the ids of those jobs whose worker has sent its last word on the attempt."""
    if not jobs:
        return set()
    client: Any = valkey.client()
    claims = client.mget([protocol.claim_key(str(job.pk), job.attempt) for job in jobs])
    return {
        job.pk
        for job, claim in zip(jobs, claims, strict=True)
        if claim is not None and claim.startswith(protocol.CLAIM_DONE)
    }


def times_missing(job: Job, window_s: int) -> int:
    """Count one more time that no live worker has the attempt; return the times in the window.

    One look is not enough: after a restart of Valkey all heartbeats are absent for a moment.
    """
    client: Any = valkey.client()
    key = f"job:{job.pk}:missing:{job.attempt}"
    pipe = client.pipeline()
    pipe.incr(key)
    pipe.expire(key, window_s)
    return int(pipe.execute()[0])
