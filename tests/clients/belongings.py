"""Everything that one organisation can have, for tests that walk over all routes, and its rows."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from django.apps import apps
from django.utils import timezone

from billing.invoicing.close import close
from billing.models import Invoice, TopUp
from billing.statements.close import statement_close
from billing.wallets import credit_limit_set
from marketplace.accounts import projects
from marketplace.accounts import services as accounts
from marketplace.accounts.endpoints import endpoint_create, endpoint_test
from marketplace.core.money import to_nano
from marketplace.jobs import events, files, services
from marketplace.jobs.models import Job
from tests.billing.statements.market import buyer, call, payout_account
from tests.cast import (
    PIXEL,
    Cast,
    listed_version,
    report_failed,
    report_finished,
    report_started,
)
from tests.invoicing import OCTOBER, charge

GIVEN: dict[str, Any] = {"prompt": "a red circle"}


@dataclass
class Belongings:
    """Ids by the name that a route's parameter has. `private` is a model nobody else may see."""

    private: str
    ids: dict[str, list[str]] = field(default_factory=dict)


def jobs_of(cast: Cast) -> list[Job]:
    """Make Bob a job in each state: queued, running, succeeded, failed, cancelled."""
    made = []
    for _ in range(5):
        job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given=GIVEN)
        job.refresh_from_db()
        made.append(job)
    for job in made[1:4]:
        services.job_started(report_started(job))
    events.emit(made[1].pk, "progress", {"step": 1, "steps": 4})
    services.job_finished(report_finished(made[2]))
    services.job_failed(report_failed(made[3], "engine_error"))
    services.job_cancel(org=cast.developer, job=made[4])
    return made


def statement_of(cast: Cast) -> str:
    """Close a month of Alice's."""
    payout_account(cast.vendor)
    payer = buyer("fred", prepaid=100 * 10**9, country="FR")
    call(payer, 10 * 10**9 + 1, [(cast.vendor, 8000)], datetime(2026, 10, 20, tzinfo=UTC))
    with patch.object(timezone, "now", lambda: datetime(2026, 12, 4, tzinfo=UTC)):
        return str(statement_close(org_id=cast.vendor.pk, month=OCTOBER).pk)


def invoice_of(cast: Cast) -> str:
    """Close a month of Bob's."""
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    charge(cast.developer, cast.vendor, to_nano("3.005"))
    close(OCTOBER)
    return str(Invoice.objects.get(org=cast.developer).pk)


def belongings_of(cast: Cast, *, keys: int = 1) -> Belongings:
    """Give Bob (and Alice, what only vendors have) one of everything at least."""
    jobs = jobs_of(cast)
    file = files.upload_store(
        org=cast.developer, name="a.png", content_type="image/png", body=PIXEL
    )
    private = listed_version(
        cast.vendor, cast.licence, cast.sam, name="secret", visibility="private"
    )
    made = [
        accounts.api_key_create(org=cast.developer, name=f"key {n}", scopes=["run"])[0]
        for n in range(keys)
    ]
    top_up = TopUp.objects.create(org=cast.developer, cents=2500)
    hook = endpoint_create(org=cast.developer, url="https://93.184.215.14/hook")
    told = endpoint_test(org=cast.developer, endpoint_id=hook.pk)
    ids: dict[str, list[Any]] = {
        "job_id": [job.pk for job in jobs],
        "ended_job_id": [job.pk for job in jobs[2:]],
        "file_id": [file.pk],
        "key_id": [key.pk for key in made],
        "project_id": [projects.project_create(org=cast.developer, name="Film").pk],
        "invoice_id": [invoice_of(cast)],
        "top_up_id": [top_up.pk],
        "endpoint_id": [hook.pk],
        "delivery_id": [told.pk],
        "statement_id": [statement_of(cast)],
        "licence_id": [cast.licence.pk],
        "version_id": [private.pk],
    }
    found = {name: [str(pk) for pk in several] for name, several in ids.items()}
    return Belongings(private=private.model.ref, ids=found)


def rows() -> dict[tuple[str, str], str]:
    """Return {(table, key): text} of all rows."""
    found = {}
    for model in apps.get_models(include_auto_created=True):
        if model._meta.managed and not model._meta.proxy:
            for row in model._default_manager.order_by().values():
                found[model._meta.label, str(row[model._meta.pk.attname])] = repr(
                    sorted(row.items())
                )
    return found
