"""Forms of the developer's desk: rotation, retention, webhooks. Services decide what is allowed."""

import uuid

from django import forms
from django.conf import settings

from marketplace.accounts.models import ApiKey
from marketplace.accounts.webhook_models import HookEvent

GRACES = [
    ("0", "No longer: it ends now"),
    ("1", "1 hour"),
    ("24", "1 day"),
    ("168", "7 days"),
    ("720", "30 days"),
]


class RotateForm(forms.Form):
    """How to replace a key's secret."""

    grace_hours = forms.ChoiceField(
        choices=GRACES,
        initial="24",
        label="The old secret works for",
        help_text="Long enough to put the new one everywhere the key is used.",
    )
    # Sent twice, by a double click or a reload, the form makes one secret.
    current = forms.CharField(required=False, widget=forms.HiddenInput)
    once = forms.CharField(required=False, max_length=36, widget=forms.HiddenInput)

    @classmethod
    def asking(cls, key: ApiKey, grace_hours: str = "24", *, bound: bool = False) -> "RotateForm":
        """Return the form for the secret that a key has now."""
        values = {"grace_hours": grace_hours, "current": key.prefix, "once": str(uuid.uuid4())}
        return cls(values) if bound else cls(initial=values)


class RetentionForm(forms.Form):
    """How long inputs and outputs are kept."""

    keep_days = forms.IntegerField(required=False, label="Keep inputs and outputs for, in days")

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        least, most = settings.FILE_KEEP_DAYS_BOUNDS
        self.fields["keep_days"].help_text = (
            f"{least} to {most}. Empty: {settings.FILE_KEEP_DAYS}, as {settings.SITE_NAME} does. "
            "It counts for old jobs too; what is deleted does not come back."
        )

    def clean_keep_days(self) -> int | None:
        """Refuse what the service would, before the page asks whether it is meant."""
        days: int | None = self.cleaned_data["keep_days"]
        least, most = settings.FILE_KEEP_DAYS_BOUNDS
        if days is not None and not least <= days <= most:
            raise forms.ValidationError(f"{least} to {most} days.")
        return days


class EndpointForm(forms.Form):
    """Where an organisation's server is told of events, and of which."""

    url = forms.CharField(
        max_length=2000,
        label="Address",
        help_text="Of your server. Only public ones are called.",
        widget=forms.TextInput(attrs={"inputmode": "url", "autocomplete": "off"}),
    )
    events = forms.MultipleChoiceField(
        choices=[(value, value) for value in HookEvent.values],
        initial=HookEvent.values,
        widget=forms.CheckboxSelectMultiple,
        label="Is told of",
    )
    note = forms.CharField(max_length=120, required=False, help_text="What it is for.")
