"""App configuration."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Calls of models and their files."""

    name = "marketplace.jobs"
    label = "jobs"

    def ready(self) -> None:
        """Register the gauges that are read at scrape time, and rules of the audit."""
        from billing.invariants import register, register_check
        from marketplace.core.storage import gone_register
        from marketplace.jobs import gauges  # noqa: F401  (registers on import)
        from marketplace.jobs.checks import charges_rated_wrong
        from marketplace.jobs.files import UPLOADS, is_deleted
        from marketplace.jobs.selectors import free_units_drift

        gone_register(UPLOADS, is_deleted)
        register_check("a charge is what its pinned price says", charges_rated_wrong)
        register_check("free units are those of the jobs", free_units_drift)
        register(
            "a job holds money exactly while it lives",
            """SELECT j.id::text, j.status, h.state FROM jobs_job j
               LEFT JOIN billing_hold h ON h.source_id = j.id
               WHERE h.state IS NULL
                  OR (j.status IN ('queued', 'running')) <> (h.state = 'open')
                  OR (j.status = 'succeeded') AND j.charge_nano IS NULL""",
        )
