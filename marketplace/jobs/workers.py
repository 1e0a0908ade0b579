"""The fleet as its heartbeats in Valkey tell it."""

import json
from typing import Any

from inference import protocol
from marketplace.core import valkey


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


def missing_twice(job_id: object, window_s: int) -> bool:
    """Count that no live worker has the job. Returns True from the second time in the window on.

    One look is not enough: after a restart of Valkey all heartbeats are absent for a moment.
    """
    client: Any = valkey.client()
    key = f"job:{job_id}:missing"
    pipe = client.pipeline()
    pipe.incr(key)
    pipe.expire(key, window_s)
    return bool(pipe.execute()[0] >= 2)
