"""The Celery application of the GPU plane; Celery finds it here by `-A inference.worker`."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from typing import Any, NoReturn

import redis
import structlog
import urllib3
from celery import Celery, signals
from celery.exceptions import SecurityWarning
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference.engine.errors import EngineError
from inference.protocol import TASK_RUN, gpu_queue
from inference.worker import logs, metrics
from inference.worker.settings import WorkerSettings, refuse_secrets

log = structlog.get_logger(__name__)


def _exit(problem: object) -> NoReturn:
    # Celery's signals swallow every Exception, but not SystemExit.
    raise SystemExit(f"worker: {problem}")


def _refuse_secrets() -> None:
    try:
        refuse_secrets(os.environ)
    except ValueError as error:
        _exit(error)


def _settings() -> WorkerSettings:
    try:
        return WorkerSettings.from_env(os.environ)
    except ValueError as error:
        _exit(error)


# It warns of pickled tasks under root; this application accepts JSON alone.
warnings.simplefilter("ignore", SecurityWarning)
settings = _settings()
app = Celery("inference.worker", broker=settings.broker_url)
app.conf.update(
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    event_serializer="json",
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_create_missing_queues=True,
    task_default_queue=gpu_queue(settings.classes[0]),
    worker_prefetch_multiplier=1,
    worker_concurrency=settings.slots,
    worker_pool="threads",
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_detect_quorum_queues=False,
    broker_connection_retry=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_pool_limit=settings.slots + 2,
    broker_transport_options={
        "visibility_timeout": settings.visibility_timeout_s,
        # A consumer gives messages back after its own visibility timeout whoever holds them,
        # so the control plane's short timeout must not look into this set.
        "unacked_key": "unacked.gpu",
        "unacked_index_key": "unacked_index.gpu",
        "unacked_mutex_key": "unacked_mutex.gpu",
        # A dead worker's messages are looked for each 10 s; the defaults make that 100 s.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    },
)


def _retire() -> None:
    """Let this worker end as at SIGTERM, once: its supervisor starts one with a fresh device."""
    if not _retiring.acquire(blocking=False):
        return
    log.critical("the device failed: this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)


class _Process:
    """What a running worker holds; made at its start, not at import."""

    def __init__(self) -> None:
        from inference.engine.families import model_at
        from inference.engine.runner import Engine
        from inference.engine.weights import WeightsStore
        from inference.engine.weights.settings import WeightsSettings
        from inference.worker import peers
        from inference.worker.heartbeat import HeartbeatThread
        from inference.worker.jobs import JobRunner

        valkey = redis.Redis.from_url(
            settings.valkey_url,
            socket_timeout=2,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 1),
        )
        places = peers.own_settings(WeightsSettings.from_env(os.environ))
        discover = peers.Discovery(valkey, settings.worker_id, places.peer_token or "")
        engine = Engine(WeightsStore(settings=places, discover=discover))
        for uri in settings.preload:
            engine.load(model_at(uri)).result()
        http = urllib3.PoolManager(maxsize=settings.slots)
        self.jobs = JobRunner(app, settings.worker_id, engine, valkey, http)
        self.weights = peers.start(places, settings.worker_id)
        self.heartbeat = HeartbeatThread(valkey, settings, engine.device, self.jobs, self.weights)
        self.device = engine.device
        if settings.metrics_port:
            metrics.serve(settings.metrics_port)


process: _Process | None = None
_retiring = threading.Lock()


@app.task(name=TASK_RUN)
def run(message: dict[str, Any]) -> None:
    """Run one attempt at a job: `message` is a RunJob as JSON."""
    assert process is not None
    process.jobs.run(message)
    if process.jobs.device_lost:
        _retire()


@signals.setup_logging.connect
def _setup_logging(**_: Any) -> None:
    logs.configure(settings.worker_id)


@signals.worker_init.connect
def _start(**_: Any) -> None:
    global process
    _refuse_secrets()
    logs.configure(settings.worker_id)
    try:
        process = _Process()
    except (EngineError, ValueError, OSError) as error:
        _exit(error)


@signals.worker_ready.connect
def _ready(sender: Any = None, **_: Any) -> None:
    assert process is not None
    process.heartbeat.drain.consumer = sender
    process.heartbeat.start()
    log.info(
        "worker ready",
        device=process.device.name,
        classes=settings.classes,
        slots=settings.slots,
    )


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    if process is not None and settings.drain_s is not None:
        timer = threading.Timer(settings.drain_s, process.jobs.abort.set)
        timer.daemon = True
        timer.start()


@signals.worker_shutdown.connect
def _stop(**_: Any) -> None:
    if process is None:
        return
    if process.heartbeat.is_alive():
        process.heartbeat.stop()
    process.weights.close()
    if process.jobs.device_lost:
        _exit("the device failed; only a new process can use it again")


def main() -> int:
    """Serve until SIGTERM, which lets running jobs finish. Returns the exit status.

    Raises SystemExit where the device is lost, so that a supervisor starts another worker.
    """
    _refuse_secrets()
    queues = ",".join(gpu_queue(name) for name in settings.classes)
    arguments = ["--quiet", "worker", "--pool=threads", f"--concurrency={settings.slots}"]
    arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main([*arguments, "-Q", queues, f"--hostname={settings.worker_id}"])
    return 0
