"""Tells the control plane what became of a job, and does not lose the message."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from kombu.exceptions import OperationalError

from inference.protocol import (
    QUEUE_CONTROL,
    TASK_FAILED,
    TASK_FINISHED,
    TASK_STARTED,
    JobFailed,
    JobFinished,
    JobStarted,
)

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)

TASKS: dict[type[JobStarted | JobFinished | JobFailed], str] = {
    JobStarted: TASK_STARTED,
    JobFinished: TASK_FINISHED,
    JobFailed: TASK_FAILED,
}
LAST_TRIES_S = 30.0
"""The end of a job is tried for this long even when its deadline is over."""
RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


def report(app: Celery, message: JobStarted | JobFinished | JobFailed, deadline: float) -> bool:
    """Send `message` to the control queue; retry while the broker is away, until `deadline`.

    `deadline` is in epoch seconds. Returns False, and logs an error, if it could not be sent.
    """
    task = TASKS[type(message)]
    until = deadline
    if not isinstance(message, JobStarted):
        until = max(deadline, time.time() + LAST_TRIES_S)
    pause = 0.1
    while True:
        try:
            app.send_task(
                task,
                args=[message.to_dict()],
                queue=QUEUE_CONTROL,
                ignore_result=True,
                retry_policy=RETRY,
            )
            return True
        except (OperationalError, OSError) as error:
            if time.time() + pause >= until:
                log.error("report lost: the broker stayed away", task=task)
                return False
            log.warning("broker is away, trying again", task=task, error=type(error).__name__)
        time.sleep(pause)
        pause = min(2 * pause, 2.0)
