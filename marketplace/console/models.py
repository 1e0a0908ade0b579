"""Tables of the console: what staff did, and what people report to them."""

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from marketplace.accounts.models import Organisation, User
from marketplace.catalog.models import Model
from marketplace.core.clock import now
from marketplace.core.ids import new_id


class StaffAct(models.Model):
    """One thing that a member of staff did: written in its transaction, never changed."""

    at = models.DateTimeField(default=now, editable=False)
    by = models.ForeignKey(User, models.PROTECT, related_name="staff_acts")
    verb = models.CharField(max_length=40, help_text="Such as version.listed.")
    subject = models.CharField(max_length=200, help_text="What it was done to, for people.")
    subject_id = models.CharField(max_length=64, blank=True)
    org = models.ForeignKey(
        Organisation, models.PROTECT, null=True, blank=True, related_name="staff_acts"
    )
    note = models.CharField(max_length=4000, blank=True)

    class Meta:
        """Newest first; found by what was done, by whom and to what."""

        ordering: ClassVar[list[str]] = ["-pk"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["subject_id"], name="staff_act_subject"),
            models.Index(fields=["verb"], name="staff_act_verb"),
        ]
        permissions: ClassVar[Any] = [
            ("act_as", "Can act as a user, to look only"),
            ("drain_worker", "Can drain workers"),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}"


class ReportReason(models.TextChoices):
    """What is wrong with a model or an output."""

    ILLEGAL = "illegal", "It is illegal"
    PERSON = "person", "It shows or hurts a person against their will"
    COPYRIGHT = "copyright", "It is mine, and nobody asked"
    LICENCE = "licence", "It breaks the licence of what it was made from"
    MISLEADING = "misleading", "It is not what it says"
    OTHER = "other", "Something else"


class ReportState(models.TextChoices):
    """What became of a report."""

    OPEN = "open"
    DISMISSED = "dismissed"
    HIDDEN = "hidden", "model hidden"
    SUSPENDED = "suspended", "organisation suspended"


class Report(models.Model):
    """Somebody's word against a model or one of its outputs; staff decide once."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    model = models.ForeignKey(Model, models.PROTECT, related_name="reports")
    job_id = models.UUIDField(null=True, blank=True, help_text="Whose output, if it is one.")
    reason = models.CharField(max_length=10, choices=ReportReason)
    text = models.TextField(max_length=4000)
    merged = models.PositiveIntegerField(
        default=0, help_text="How many more came while it was open, in a flood: kept in its text."
    )
    email = models.EmailField(blank=True)
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    state = models.CharField(max_length=9, choices=ReportState, default=ReportState.OPEN)
    created_at = models.DateTimeField(default=now, editable=False)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        User, models.SET_NULL, null=True, blank=True, related_name="reports_decided"
    )
    note = models.TextField(blank=True, max_length=4000)

    class Meta:
        """Oldest first: the queue is worked from its front."""

        ordering: ClassVar[list[str]] = ["created_at", "pk"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["created_at"], condition=Q(state="open"), name="report_open")
        ]

    def __str__(self) -> str:
        return f"{self.get_reason_display()}: {self.model}"
