"""Published clients of other vendors against a live server of ours, in this process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from inference import protocol
from marketplace.core.storage import storage
from marketplace.jobs import events, services
from marketplace.jobs.models import Job, JobStatus
from tests.cast import make_cast, report_finished, report_started
from tests.clients.nodes import node
from tests.clients.serving import serving
from tests.clients.tls import FAL_HOSTS, Tls, as_fal, connect, live_tls
from tests.receiver import receiver

__all__ = ["as_fal", "connect", "live_tls", "node", "receiver"]

Does = Callable[[Job], object]


@pytest.fixture(scope="session")
def live_asgi() -> Iterator[str]:
    """The address of uvicorn with the very application that is deployed."""
    from marketplace.asgi import application

    with serving(application) as port:
        yield f"http://127.0.0.1:{port}"


def _behind(url: str, settings: Any) -> Iterator[Any]:
    settings.PUBLIC_URL = url
    settings.READS_PER_SECOND, settings.READS_BURST = 1000.0, 10_000
    storage.cache_clear()  # its links begin with PUBLIC_URL
    made = make_cast()
    made.url = url
    yield made
    storage.cache_clear()


@pytest.fixture
def market(transactional_db: None, settings: Any, live_asgi: str) -> Iterator[Any]:
    """The cast, behind the live server; `url` is where that is."""
    yield from _behind(live_asgi, settings)


@pytest.fixture
def tls_market(transactional_db: None, settings: Any, live_tls: Tls) -> Iterator[Any]:
    """The cast, behind the live server with TLS, where links to outputs are https."""
    settings.ALLOWED_HOSTS = ["127.0.0.1", *FAL_HOSTS]
    yield from _behind(live_tls.url, settings)


def succeed(job: Job) -> None:
    """Do what a worker does: take the job, tell two steps, store the picture, report."""
    services.job_started(report_started(job))
    for step in (2, 4):
        events.emit(job.pk, "progress", {"step": step, "steps": 4})
    services.job_finished(report_finished(job, count=job.input.get("num_images", 1)))


@contextmanager
def working(does: Does = succeed) -> Iterator[None]:
    """Have each queued job dealt with by `does`, in a thread, for as long as the block lasts."""
    done = threading.Event()
    faults: list[BaseException] = []

    def work() -> None:
        seen: set[Any] = set()
        try:
            while not done.wait(0.02):
                rows = Job.objects.select_related("version__model__org").filter(
                    status=JobStatus.QUEUED
                )
                for job in rows.exclude(pk__in=seen):
                    seen.add(job.pk)
                    does(job)
        except BaseException as fault:
            faults.append(fault)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)
    assert not faults, faults


def failing(code: str = "engine_error") -> Does:
    """Return a worker whose model fails."""

    def fail(job: Job) -> None:
        from tests.cast import report_failed

        services.job_started(report_started(job))
        services.job_failed(report_failed(job, code))

    assert code in protocol.FAILURES
    return fail
