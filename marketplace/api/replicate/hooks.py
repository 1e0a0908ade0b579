"""What a webhook tells of a call that came through this door: the prediction itself.

The log is not told while a call runs: whoever wants that follows its stream.
"""

from typing import Any

from marketplace.api.replicate import present
from marketplace.jobs.models import Job, JobStatus
from marketplace.jobs.webhooks import START, Form, form_register

DOOR = "replicate"
COMPLETED, OUTPUT = "completed", "output"
EVENTS = (START, OUTPUT, "logs", COMPLETED)
DEFAULT = [OUTPUT, COMPLETED]


def _body(job: Job) -> dict[str, Any]:
    return present.prediction(job, with_logs=False)


def _ended(job: Job, asked: set[str]) -> str:
    """Return the event that the end is: outputs come with it, so it is one event and not two."""
    if COMPLETED in asked or not asked:
        return COMPLETED
    return OUTPUT if OUTPUT in asked and job.status == JobStatus.SUCCEEDED else ""


form_register(DOOR, Form(body=_body, ended=_ended))
