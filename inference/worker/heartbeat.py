"""Tells Valkey every two seconds that this worker lives, what it runs and what it holds."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import redis
import structlog

from inference.protocol import (
    HEARTBEAT_EVERY_S,
    HEARTBEAT_TTL_S,
    WORKERS_KEY,
    Heartbeat,
    drain_key,
    gpu_queue,
    worker_key,
)
from inference.worker.drain import Drain

if TYPE_CHECKING:
    from inference.engine.device import Device
    from inference.worker.jobs import JobRunner
    from inference.worker.peers import PeerService
    from inference.worker.settings import WorkerSettings

MINUTES = 30
"""How far back `Heartbeat.load` goes."""
log = structlog.get_logger(__name__)


class HeartbeatThread(threading.Thread):
    """Beats until `stop`, which takes the worker off the list; a killed one expires from it."""

    def __init__(
        self,
        client: redis.Redis,
        settings: WorkerSettings,
        device: Device,
        jobs: JobRunner,
        weights: PeerService,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._client = client
        self._settings = settings
        self._device = device
        self._jobs = jobs
        self._weights = weights
        self._started_at = time.time()
        self._load: deque[int] = deque(maxlen=MINUTES)
        self._minute = time.monotonic()
        self._seen: list[int] = []
        queues = [gpu_queue(name) for name in settings.classes]
        self.drain = Drain(queues, self._started_at, jobs.busy)
        self._ended = threading.Event()

    def run(self) -> None:
        """Beat, through restarts of Valkey."""
        away = False
        while not self._ended.is_set():
            try:
                self._beat()
                away = False
            except redis.RedisError as error:
                if not away:
                    log.warning("no heartbeat: valkey is away", error=type(error).__name__)
                away = True
            self._ended.wait(HEARTBEAT_EVERY_S)

    def stop(self) -> None:
        """Stop beating and take the worker off the list."""
        self._ended.set()
        self.join(timeout=5)
        try:
            with self._client.pipeline(transaction=False) as pipe:
                pipe.delete(worker_key(self._settings.worker_id))
                pipe.srem(WORKERS_KEY, self._settings.worker_id)
                pipe.execute()
        except redis.RedisError:
            log.warning("heartbeat left to expire: valkey is away")

    def _beat(self) -> None:
        settings, device, busy = self._settings, self._device, self._jobs.busy()
        self._note(len(busy))
        beat = Heartbeat(
            worker_id=settings.worker_id,
            hostname=socket.gethostname(),
            device=device.device.type,
            device_name=device.name,
            memory_bytes=device.memory_bytes,
            classes=settings.classes,
            slots=settings.slots,
            busy=busy,
            loaded=self._jobs.loaded(),
            weights_url=self._weights.url,
            weights_proof=self._weights.proof,
            started_at=self._started_at,
            at=time.time(),
            draining=self.drain.draining,
            memory_used_bytes=device.used_bytes(),
            samples=self._jobs.samples(),
            load=list(self._load),
        )
        with self._client.pipeline(transaction=False) as pipe:
            ttl = int(HEARTBEAT_TTL_S * 1000)
            pipe.set(worker_key(settings.worker_id), json.dumps(beat.to_dict()), px=ttl)
            pipe.sadd(WORKERS_KEY, settings.worker_id)
            pipe.get(drain_key(settings.worker_id))
            *_, told = pipe.execute()
        self.drain.heard(told)

    def _note(self, busy: int) -> None:
        """Count the busy slots of this beat; a minute's mean is kept as a percentage."""
        self._seen.append(min(busy, self._settings.slots))
        if time.monotonic() - self._minute >= 60:
            mean = sum(self._seen) / len(self._seen)
            self._load.append(round(100 * mean / self._settings.slots))
            self._minute, self._seen = time.monotonic(), []
