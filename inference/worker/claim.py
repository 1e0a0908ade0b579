"""Who may run an attempt: the first worker to set its claim, however often it is delivered."""

from __future__ import annotations

import enum
import time

import redis
import structlog

from inference.protocol import CLAIM_DONE, RunJob, cancel_key, claim_key, worker_key

log = structlog.get_logger(__name__)


class Claim(enum.Enum):
    """What came of trying to claim an attempt."""

    WON = "won"
    CANCELLED = "cancelled"
    HELD = "held"
    LATE = "late"


def claim(client: redis.Redis, job: RunJob, worker_id: str) -> Claim:
    """Try to claim `job` until its deadline, for as long as Valkey does not answer.

    A claim that this worker's id holds already is won again: it crashed and was restarted. So
    is the claim of a worker that no longer announces itself: it died between claim and report.
    """
    key = claim_key(job.job_id, job.attempt)
    pause = 0.1
    while (left := job.deadline - time.time()) > 0:
        try:
            with client.pipeline(transaction=False) as pipe:
                pipe.set(key, worker_id, nx=True, px=max(1, int(left * 1000)), get=True)
                pipe.exists(cancel_key(job.job_id))
                holder, cancelled = pipe.execute()
            held = holder not in (None, worker_id.encode())
            if held and not _takes_over(client, job, worker_id, holder):
                return Claim.HELD
        except redis.RedisError as error:
            log.warning("valkey is away, trying again", error=type(error).__name__)
            time.sleep(min(pause, max(left, 0.0)))
            pause = min(2 * pause, 2.0)
            continue
        return Claim.CANCELLED if cancelled else Claim.WON
    return Claim.LATE


def _takes_over(client: redis.Redis, job: RunJob, worker_id: str, holder: bytes) -> bool:
    """Take the claim of a holder that is neither done nor alive; False if it is either.

    Of two deliveries that try at once, one wins: the claim must still be the holder's.
    """
    name = holder.decode()
    if name.startswith(CLAIM_DONE) or client.exists(worker_key(name)):
        return False
    key = claim_key(job.job_id, job.attempt)
    with client.pipeline() as pipe:
        try:
            pipe.watch(key)
            if pipe.get(key) != holder:
                return False
            pipe.multi()
            pipe.set(key, worker_id, xx=True, keepttl=True)
            pipe.execute()
        except redis.WatchError:
            return False
    log.warning("taking over the claim of a worker that is gone", holder=name)
    return True


def mark_done(client: redis.Redis, job: RunJob, worker_id: str) -> None:
    """Keep a delivery that comes after the end from running again, if Valkey is there."""
    key = claim_key(job.job_id, job.attempt)
    try:
        client.set(key, f"{CLAIM_DONE}{worker_id}", xx=True, keepttl=True)
    except redis.RedisError as error:
        log.warning("claim not marked as done", error=type(error).__name__)
