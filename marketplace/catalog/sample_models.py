"""The table of sample outputs, apart from the listings: `models` makes it part of the app."""

from typing import ClassVar

from django.db import models

from inference.protocol import EXTENSIONS
from marketplace.core.clock import now
from marketplace.core.ids import new_id


class SampleOutput(models.Model):
    """A picture or clip that a version made, kept to be shown, with the input that made it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    version = models.ForeignKey("catalog.Version", models.PROTECT, related_name="samples")
    position = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=300, unique=True)
    content_type = models.CharField(max_length=100)
    size = models.BigIntegerField()
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    seconds = models.FloatField(null=True, blank=True)
    input = models.JSONField(default=dict)
    source_id = models.UUIDField(
        null=True, blank=True, help_text="The stored output of a test run that it was copied from."
    )
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        """Samples of a version are in order; an output is shown once."""

        ordering: ClassVar[list[str]] = ["position"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["version", "position"],
                name="sample_position",
                deferrable=models.Deferrable.DEFERRED,
            ),
            models.UniqueConstraint(fields=["version", "source_id"], name="sample_source_once"),
        ]

    def __str__(self) -> str:
        return f"sample {self.position} of {self.version_id}"

    @property
    def is_video(self) -> bool:
        """Tell whether a page shows it in a player."""
        return self.content_type.startswith("video/")

    @property
    def path(self) -> str:
        """Return where it is served: an address that never means other bytes."""
        return f"/samples/{self.pk}.{EXTENSIONS.get(self.content_type, 'bin')}"

    @property
    def prompt(self) -> str:
        """Return what was asked for, in words, if anything was."""
        return str(self.input.get("prompt", ""))
