"""Tables of listings under way: what a vendor has filled in, uploaded and tried so far."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from marketplace.accounts.models import Organisation, User
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.ids import new_id


class ListingDraft(models.Model):
    """What is filled in of a model's next version, a part for each step of the wizard.

    A version never changes, so it is made from this when it is first tried, and anew when the
    weights, inputs or terms change afterwards: what was tried is what is reviewed.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="listing_drafts")
    model = models.OneToOneField("catalog.Model", models.PROTECT, related_name="listing_draft")
    version = models.ForeignKey(
        "catalog.Version", models.PROTECT, null=True, blank=True, related_name="+"
    )
    weights = models.JSONField(default=dict, blank=True)
    inputs = models.JSONField(default=dict, blank=True)
    terms = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    updated_at = models.DateTimeField(default=now)
    objects = OrgQuerySet.as_manager()

    def __str__(self) -> str:
        return f"the next version of {self.model}"


class TestRun(models.Model):
    """A job that a vendor ran on a draft of its own, free of charge."""

    __test__ = False  # no class of tests, whatever its name

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="test_runs")
    version = models.ForeignKey("catalog.Version", models.PROTECT, related_name="test_runs")
    job_id = models.UUIDField(unique=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Counted by organisation and time."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["org", "-created_at"], name="test_run_org_newest"),
            models.Index(fields=["version", "-created_at"], name="test_run_version_newest"),
        ]

    def __str__(self) -> str:
        return f"test run {self.job_id}"


class UploadState(models.TextChoices):
    """How far an upload of weights is."""

    OPEN = "open"
    CHECKING = "checking"
    READY = "ready"
    REFUSED = "refused"
    DROPPED = "dropped"


class WeightsUpload(models.Model):
    """A folder of weights that a vendor sends in parts, which are joined when all are there."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="weights_uploads")
    model = models.ForeignKey("catalog.Model", models.PROTECT, related_name="weights_uploads")
    files = models.JSONField(help_text="Path and size of each file, in order.")
    lora = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=UploadState, default=UploadState.OPEN)
    digest = models.CharField(max_length=71, blank=True)
    problem = models.CharField(max_length=400, blank=True)
    lease_ends_at = models.DateTimeField(
        null=True, blank=True, help_text="Until then the check that has begun is not begun again."
    )
    swept_at = models.DateTimeField(
        null=True, blank=True, help_text="When what arrived after its end was removed."
    )
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """A listing has one upload under way."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["model"],
                condition=Q(state__in=["open", "checking"]),
                name="upload_one_under_way",
            )
        ]

    def __str__(self) -> str:
        return f"{len(self.files)} files for {self.model}"

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(int(file["size"]) for file in self.files)

    @property
    def prefix(self) -> str:
        """Return where its files are in the store."""
        return f"weights/{self.org_id}/{self.pk}"
