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
            beat = protocol.Heartbeat.from_dict(json.loads(raw))
        except ValueError:
            continue  # a worker of another version; its jobs are still judged by `missing`
        if protocol.WORKER_ID.fullmatch(beat.worker_id):  # pages make addresses of it
            beats.append(beat)
    return beats


def drain(beat: protocol.Heartbeat, *, undo: bool = False) -> None:
    """Ask a worker to take no more jobs and end when it is empty; or to go on after all.

    It hears of it at its next heartbeat. The word is for this very process: the one that takes
    its place does not drain.
    """
    client: Any = valkey.client()
    value = protocol.DRAIN_UNDONE if undo else str(beat.started_at)
    client.set(protocol.drain_key(beat.worker_id), value, ex=protocol.DRAIN_TTL_S)


def drains_asked(beats: list[protocol.Heartbeat]) -> set[str]:
    """Return the ids of the workers that were asked to drain, whether or not they heard it."""
    if not beats:
        return set()
    client: Any = valkey.client()
    values = client.mget([protocol.drain_key(beat.worker_id) for beat in beats])
    pairs = zip(beats, values, strict=True)
    return {beat.worker_id for beat, value in pairs if value == str(beat.started_at)}


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
