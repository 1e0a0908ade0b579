"""Forms of the listing wizard. They parse; what is allowed is decided by the services."""

from typing import Any

from django import forms

from inference.protocol import FAMILIES
from marketplace.catalog.models import Category, Licence, Task, Visibility
from marketplace.dashboard.fields import CleanJSONField, in_words
from marketplace.dashboard.forms import PrettyEncoder, PriceForm


class AboutForm(forms.Form):
    """What people read of a listing."""

    title = forms.CharField(max_length=120, help_text="As people say it: Night Sketch.")
    summary = forms.CharField(
        max_length=240, required=False, help_text="One line, shown in the gallery."
    )
    category = forms.ChoiceField(choices=Category.choices)
    description = forms.CharField(
        max_length=20_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text="Markdown. What it is good at, what it is not, how it was trained.",
    )
    visibility = forms.ChoiceField(
        choices=Visibility.choices,
        initial=Visibility.PUBLIC,
        label="Once it is listed, it is",
        help_text="Public: in the gallery. Unlisted: by its address. Private: only you.",
    )


class NewAboutForm(AboutForm):
    """The same for a new listing, whose name and task are for good."""

    name = forms.CharField(
        max_length=40, help_text="Lower-case letters, digits, dots and hyphens. It is for good."
    )
    task = forms.ChoiceField(
        choices=in_words(Task.choices), help_text="What goes in and what comes out."
    )
    field_order = ("title", "name", "task", "category", "summary", "description", "visibility")


class WeightsForm(forms.Form):
    """Where the weights are."""

    uri = forms.CharField(
        max_length=500,
        label="Address",
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "off"}),
        help_text="s3://BUCKET/PREFIX, hub://OWNER/NAME@REVISION, or starter:NAME",
    )
    digest = forms.CharField(
        max_length=71,
        required=False,
        widget=forms.TextInput(attrs={"spellcheck": "false"}),
        help_text="sha256: and 64 hexadecimal digits. What ships with the market is looked up.",
    )
    lora = forms.BooleanField(
        required=False,
        label="A LoRA",
        help_text="A change to the weights of another version, which it runs on.",
    )


class InputsForm(forms.Form):
    """The family, the input schema and what runs it."""

    family = forms.ChoiceField(choices=[(name, name) for name in FAMILIES if name != "noop"])
    input_schema = forms.CharField(
        max_length=64_000,
        widget=forms.Textarea(attrs={"rows": 22, "class": "code", "spellcheck": "false"}),
        help_text="JSON Schema 2020-12. The playground, the checks and the quote are made from it.",
    )
    hardware_class = forms.CharField(
        max_length=20, initial="small", help_text="Which workers run it."
    )
    max_engine_s = forms.IntegerField(
        min_value=1,
        max_value=3600,
        initial=120,
        label="Time limit in seconds",
        help_text="Most time on the device that one job may take.",
    )
    profile = CleanJSONField(
        required=False,
        encoder=PrettyEncoder,
        widget=forms.Textarea(attrs={"rows": 3, "class": "code", "spellcheck": "false"}),
        help_text='What speed may cost: {"quality": "exact"}, high or fast. Empty: exact.',
    )


class TermsForm(forms.Form):
    """The licence, and what the version was made from."""

    licence = forms.ModelChoiceField(queryset=Licence.objects.none(), empty_label=None)
    base = forms.CharField(
        required=False,
        label="Made from",
        widget=forms.TextInput(attrs={"spellcheck": "false"}),
        help_text="vendor/name:number of the version this is derived from. Its vendor gets "
        "the royalty of its licence.",
    )
    parents = forms.CharField(
        required=False,
        label="And from",
        help_text="What else went into it: vendor/name:number of each, separated by spaces.",
    )

    def offer(self, licences: Any) -> "TermsForm":
        """Let the vendor choose among these."""
        field = self.fields["licence"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = licences
        return self

    def arguments(self) -> dict[str, Any]:
        """Return what `terms_set` takes."""
        data = self.cleaned_data
        return {
            "licence": data["licence"],
            "base": data["base"].strip(),
            "parents": data["parents"].replace(",", " ").split(),
        }


class PublicPriceForm(PriceForm):
    """The public price: nobody has negotiated one before a version is listed."""

    for_org = None  # type: ignore[assignment]
    ends_on = None  # type: ignore[assignment]

    def arguments(self) -> dict[str, Any]:
        """Return what `price_set` takes."""
        self.cleaned_data |= {"for_org": None, "ends_on": None}
        return super().arguments()

    def clean_for_org(self) -> None:
        """There is none."""
