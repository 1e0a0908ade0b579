"""Addresses that are a permission by themselves: to follow one job, for some time.

Clients that open event streams in a browser send no key. (Links to files are the store's part.)
"""

from django.conf import settings
from django.core import signing

from marketplace.core.errors import NotFound
from marketplace.core.ids import parse_id
from marketplace.jobs.models import Job

_SALT = "mercato.streams"


def stream_token(job: Job) -> str:
    """Return what allows anybody to follow `job` for FILE_URL_TTL_S seconds."""
    return signing.dumps(str(job.pk), salt=_SALT)


def stream_job(token: str) -> Job:
    """Return the job that a token is for. Raises NotFound if it is forged or has expired."""
    try:
        named = signing.loads(token, salt=_SALT, max_age=settings.FILE_URL_TTL_S)
    except signing.BadSignature as error:
        raise NotFound("This link is not valid, or no longer.") from error
    job = Job.objects.filter(pk=parse_id(named)).select_related("org").first()
    if job is None:
        raise NotFound("This link is not valid, or no longer.")
    return job
