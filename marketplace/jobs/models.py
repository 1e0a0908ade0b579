"""Tables of jobs, files and webhook deliveries."""

from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models import Q

from inference.protocol import EXTENSIONS
from marketplace.accounts.models import ApiKey, Organisation, User
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.accounts.webhook_models import EndpointRow, HookEvent, WebhookEndpoint
from marketplace.catalog.models import Price, Version
from marketplace.core.clock import now
from marketplace.core.ids import new_id


class JobStatus(models.TextChoices):
    """A job only ever moves to the right; a retry goes back to queued with a new attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


LIVE = (JobStatus.QUEUED, JobStatus.RUNNING)
ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Job(models.Model):
    """One call. While it is queued the row is its own outbox: see `dispatch_at`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="jobs")
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, blank=True)
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    version = models.ForeignKey(Version, models.PROTECT, related_name="jobs")
    price = models.ForeignKey(Price, models.PROTECT)
    shares = models.JSONField(help_text="Who is owed which part, pinned at submission.")
    input = models.JSONField()
    free_quantity = models.DecimalField(
        max_digits=20, decimal_places=6, default=0, help_text="Free units held at submission."
    )
    free_month = models.DateField(null=True, blank=True)
    quote_nano = models.BigIntegerField()
    charge_nano = models.BigIntegerField(null=True, blank=True)

    status = models.CharField(max_length=10, choices=JobStatus, default=JobStatus.QUEUED)
    attempt = models.PositiveSmallIntegerField(default=1)
    queue = models.CharField(max_length=40)
    dispatch_at = models.DateTimeField(
        help_text="When a queued job is sent (again) to its queue, unless it has started."
    )
    dispatches = models.PositiveSmallIntegerField(default=0)
    deadline_at = models.DateTimeField()
    start_by = models.DateTimeField(
        null=True, blank=True, help_text="The caller has no use for it if it starts later."
    )
    priority = models.SmallIntegerField(
        default=0, db_default=0, help_text="Below 0: after those that are not."
    )
    keep_s = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Seconds that outputs are kept, if fewer than the organisation's.",
    )
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    worker_id = models.CharField(max_length=120, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    result = models.JSONField(default=dict, blank=True)
    usage = models.JSONField(default=dict, blank=True)
    timings_ms = models.JSONField(default=dict, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)

    # Null, not empty, where there is none: the unique constraint lets nulls repeat.
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001
    request_digest = models.CharField(max_length=64, blank=True)
    door = models.CharField(
        max_length=12,
        blank=True,
        db_default="",
        help_text="The foreign API that it came through, in whose form its webhooks are told.",
    )
    webhook_url = models.URLField(max_length=2000, blank=True)
    webhook_events = models.CharField(
        max_length=60, blank=True, db_default="", help_text="Which a door tells, by commas."
    )
    past_attempts = models.JSONField(
        default=list,
        blank=True,
        help_text="Attempts that failed: [{attempt, queued_at, started_at, ended_at, code, ...}].",
    )
    purged_at = models.DateTimeField(
        null=True, blank=True, help_text="When its inputs and outputs were deleted."
    )
    held_at = models.DateTimeField(
        null=True, blank=True, help_text="Since then a report about it is open: nothing is deleted."
    )
    trace_id = models.CharField(max_length=64, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Lists by organisation, newest first; small partial indexes for the sweeper."""

        ordering: ClassVar[list[str]] = ["-created_at", "-id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["org", "-created_at", "-id"], name="job_org_newest"),
            models.Index(fields=["version", "-created_at"], name="job_version_newest"),
            # A developer's list by each of its filters.
            models.Index(fields=["org", "status", "-created_at", "-id"], name="job_org_status"),
            models.Index(fields=["org", "version", "-created_at", "-id"], name="job_org_version"),
            models.Index(fields=["org", "api_key", "-created_at", "-id"], name="job_org_key"),
            # Usage by model, key and day, read from the index alone.
            models.Index(
                fields=["org", "finished_at"],
                include=["version", "api_key", "charge_nano"],
                name="job_usage",
            ),
            models.Index(
                fields=["org", "finished_at"],
                condition=Q(purged_at__isnull=True, finished_at__isnull=False),
                name="job_purge_by_org",
            ),
            models.Index(fields=["org"], condition=Q(held_at__isnull=False), name="job_held"),
            models.Index(
                fields=["dispatch_at"], condition=Q(status="queued"), name="job_dispatch_due"
            ),
            models.Index(
                fields=["queue", "created_at"], condition=Q(status="queued"), name="job_position"
            ),
            models.Index(
                fields=["start_by"],
                condition=Q(status="queued", start_by__isnull=False),
                name="job_start_by",
            ),
            models.Index(
                fields=["finished_at"],
                condition=Q(purged_at__isnull=True, keep_s__isnull=False),
                name="job_short_lived",
            ),
            models.Index(
                fields=["deadline_at"],
                condition=Q(status__in=["queued", "running"]),
                name="job_live_deadline",
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "idempotency_key"], name="job_idempotency"),
            models.CheckConstraint(
                condition=Q(charge_nano__isnull=True)
                | (Q(charge_nano__gte=0) & Q(charge_nano__lte=models.F("quote_nano"))),
                name="job_charge_within_quote",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.status} job {self.pk}"

    @property
    def is_ended(self) -> bool:
        """Tell whether nothing more will happen to the job."""
        return self.status in ENDED


class Purpose(models.TextChoices):
    """Which way a file goes."""

    INPUT = "input"
    OUTPUT = "output"


class File(models.Model):
    """A stored object: an upload of a developer or an output of a job."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="files")
    purpose = models.CharField(max_length=6, choices=Purpose)
    job = models.ForeignKey(Job, models.PROTECT, null=True, blank=True, related_name="outputs")
    index = models.PositiveSmallIntegerField(default=0)
    key = models.CharField(max_length=300, unique=True)
    name = models.CharField(max_length=200, blank=True)
    content_type = models.CharField(max_length=100)
    size = models.BigIntegerField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    seconds = models.FloatField(null=True, blank=True)
    nsfw = models.BooleanField(
        null=True, blank=True, help_text="What the weights' safety checker says, if they have one."
    )
    created_at = models.DateTimeField(default=now, editable=False)
    metadata = models.JSONField(null=True, blank=True, help_text="What its owner noted about it.")
    keep_s = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Seconds that an upload is kept, if fewer than the organisation's.",
    )
    expires_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True, blank=True)
    link_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Until then somebody has a link that stores it, whether it was deleted or not.",
    )
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Outputs of a job are numbered."""

        ordering: ClassVar[list[str]] = ["index"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["expires_at"], condition=Q(deleted_at__isnull=True), name="file_expiry"
            ),
            models.Index(
                fields=["org"],
                include=["size"],
                name="file_uploads",
                condition=Q(purpose="input", deleted_at__isnull=True),
            ),
            models.Index(
                fields=["link_until"],
                name="file_deleted_links",
                condition=Q(deleted_at__isnull=False, link_until__isnull=False),
            ),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["job", "index"], condition=Q(job__isnull=False), name="output_index"
            )
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def extension(self) -> str:
        """Return how the name of a downloaded output ends."""
        return EXTENSIONS.get(self.content_type, "bin")

    @property
    def is_video(self) -> bool:
        """Tell whether a page shows it in a player."""
        return self.content_type.startswith("video/")


class WebhookDelivery(EndpointRow):
    """One event of a job for one URL; `id` is derived from job, event and endpoint."""

    id = models.UUIDField(primary_key=True)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="webhook_deliveries")
    job = models.ForeignKey(Job, models.PROTECT, related_name="webhook_deliveries")
    endpoint = models.ForeignKey(
        WebhookEndpoint, models.SET_NULL, null=True, db_index=False,
        related_name="webhook_deliveries",
    )  # fmt: skip
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Due rows are found by a partial index."""

        verbose_name_plural = "webhook deliveries"

        ordering: ClassVar[list[str]] = ["-created_at"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(delivery="pending"), name="webhook_due"
            ),
            models.Index(
                fields=["created_at"], condition=Q(delivery="failed"), name="webhook_failed"
            ),
            models.Index(fields=["org", "-created_at", "-id"], name="webhook_org_newest"),
            models.Index(
                fields=["endpoint", "-created_at", "-id"],
                condition=Q(endpoint__isnull=False),
                name="webhook_endpoint_newest",
            ),
            models.Index(
                fields=["endpoint", "created_at", "id"],
                condition=Q(delivery="failed", endpoint__isnull=False),
                name="webhook_endpoint_failed",
            ),
            models.Index(
                fields=["org", "-created_at", "-id"],
                condition=Q(delivery="failed"),
                name="webhook_org_failed",
            ),
        ]

    def signed(self, body: bytes, moment: datetime) -> dict[str, str]:
        """Return the headers of our own form, or of the door that the job came through.

        Endpoints are told of its end in our own form, whatever the door.
        """
        from marketplace.jobs.webhooks import form_of  # which imports this module

        form = None if self.event in HookEvent.values else form_of(self.job)
        if form is None or form.headers is None:
            return super().signed(body, moment)
        return form.headers(self, body, moment)
