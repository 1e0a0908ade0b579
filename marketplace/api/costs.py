"""What a call costs, in headers of every answer about it, the same through every door."""

from typing import TypeVar

from django.http import HttpResponseBase

from marketplace.jobs.models import Job

R = TypeVar("R", bound=HttpResponseBase)

QUOTE = "X-Mercato-Quote-Nano-Usd"
CHARGE = "X-Mercato-Charge-Nano-Usd"


def with_cost(response: R, job: Job) -> R:
    """Name the quote, and the charge once the job has ended, in nano-USD."""
    response[QUOTE] = str(job.quote_nano)
    if job.charge_nano is not None:
        response[CHARGE] = str(job.charge_nano)
    return response
