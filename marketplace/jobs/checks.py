"""What the audit asks of jobs in Python: that each charge is what its pinned price says."""

from typing import Any

from billing.models import Charge
from billing.split import Share, split
from marketplace.catalog import selectors as catalog
from marketplace.jobs import quoting
from marketplace.jobs.models import Job, JobStatus

NEWEST = 500


def _expected(job: Job) -> tuple[int, list[int]]:
    """Return what a job costs by its pinned price and shares: amount and each share, nano-USD."""
    if job.status != JobStatus.SUCCEEDED:
        return 0, []
    terms = catalog.terms(job.price)
    amount = quoting.charge(terms, job.usage, job.quote_nano, job.free_quantity).amount_nano
    return amount, split(amount, [Share.from_dict(share) for share in job.shares])[0]


def charges_rated_wrong() -> list[tuple[Any, ...]]:
    """Rate the newest ended jobs again. Returns (job, charged, expected) of those that differ."""
    jobs = {
        job.pk: job
        for job in Job.objects.filter(finished_at__isnull=False)
        .select_related("price")
        .order_by("-finished_at")[:NEWEST]
    }
    found = []
    for charge in Charge.objects.filter(pk__in=list(jobs)):
        amount, shares = _expected(jobs[charge.pk])
        charged = [share["amount_nano"] for share in charge.shares] if charge.amount_nano else []
        if (charge.amount_nano, charged) != (amount, shares if amount else []):
            found.append((str(charge.pk), (charge.amount_nano, charged), (amount, shares)))
    return found
