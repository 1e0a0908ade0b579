"""Forms of the pages. They parse; what is allowed is decided by the services."""

import json
import re
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import QuerySet

from inference.protocol import FAMILIES
from marketplace.accounts.models import Organisation, Project, Role, Scope
from marketplace.accounts.selectors import organisation_get
from marketplace.accounts.services import GIVERS
from marketplace.catalog.models import (
    Category,
    Licence,
    LicenceKind,
    Scheme,
    Unit,
    Visibility,
)
from marketplace.core.clock import now
from marketplace.core.errors import NotFound
from marketplace.dashboard.fields import CleanJSONField, DayField, in_words

EXPIRY_DAYS = [("", "Never"), ("7", "In 7 days"), ("30", "In 30 days"), ("365", "In a year")]
DEFAULT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 2000},
        "negative_prompt": {"type": "string", "maxLength": 2000, "default": ""},
        "width": {"type": "integer", "minimum": 256, "maximum": 1024, "default": 1024},
        "height": {"type": "integer", "minimum": 256, "maximum": 1024, "default": 1024},
        "num_images": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
        "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 50, "default": 28},
        "guidance_scale": {"type": "number", "minimum": 0, "maximum": 20, "default": 5},
        "seed": {"type": "integer", "minimum": 0, "maximum": 4294967295},
    },
}


class PrettyEncoder(json.JSONEncoder):
    """Writes JSON that people edit over several lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2})


class KeyForm(forms.Form):
    """A new API key."""

    name = forms.CharField(max_length=80, help_text="Where you will use it.")
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        initial=[Scope.RUN, Scope.READ],
        widget=forms.CheckboxSelectMultiple,
        label="May",
    )
    budget_usd = forms.DecimalField(
        required=False,
        min_value=0,
        max_value=1_000_000,
        decimal_places=9,
        label="Monthly budget in USD",
        help_text="Jobs that could exceed it are refused. Empty: no limit but the balance.",
    )
    project = forms.ModelChoiceField(
        queryset=Project.objects.none(),
        required=False,
        empty_label="None",
        help_text="Whose budget it spends from as well.",
    )
    expires = forms.ChoiceField(choices=EXPIRY_DAYS, required=False, label="Expires")
    allowed_models = forms.CharField(
        required=False,
        label="Only these models",
        help_text="vendor/name, separated by spaces. Empty: all.",
    )

    def offer_projects(self, projects: QuerySet[Project]) -> "KeyForm":
        """Let the maker choose among these."""
        field = self.fields["project"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = projects
        return self

    def offer_scopes(self, role: str) -> "KeyForm":
        """Offer what a member of `role` may give."""
        field = self.fields["scopes"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(s.value, s.label) for s in Scope if role in GIVERS.get(s, Role)]
        return self

    def arguments(self) -> dict[str, Any]:
        """Return what `api_key_create` takes."""
        data = self.cleaned_data
        budget: Decimal | None = data["budget_usd"]
        days = data["expires"]
        return {
            "name": data["name"],
            "scopes": data["scopes"],
            "project": data["project"],
            "monthly_budget_nano": None if budget is None else int(budget * 10**9),
            "expires_at": now() + timedelta(days=int(days)) if days else None,
            "allowed_models": data["allowed_models"].replace(",", " ").split(),
        }


class InvitationForm(forms.Form):
    """An invitation by e-mail."""

    email = forms.EmailField(label="E-mail address")
    role = forms.ChoiceField(choices=Role.choices, initial=Role.DEVELOPER)


class OrganisationForm(forms.Form):
    """A new organisation."""

    name = forms.CharField(max_length=120)
    slug = forms.CharField(
        max_length=40,
        required=False,
        label="Address",
        help_text="Part of your models' names: address/model. Empty: made from the name.",
    )


class SettingsForm(forms.Form):
    """What the public profile of an organisation says."""

    name = forms.CharField(max_length=120)
    about = forms.CharField(
        max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 4})
    )
    website = forms.URLField(required=False, assume_scheme="https")
    country = forms.CharField(
        max_length=2, required=False, help_text="Two letters (ISO 3166), such as FR."
    )


class ModelForm(forms.Form):
    """What people read of a listing."""

    title = forms.CharField(max_length=120)
    summary = forms.CharField(
        max_length=240, required=False, help_text="One line, shown in the gallery."
    )
    description = forms.CharField(
        max_length=20_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text="Markdown. What it is good at, what it is not, how it was trained.",
    )
    category = forms.ChoiceField(choices=Category.choices, required=False)
    visibility = forms.ChoiceField(
        choices=Visibility.choices,
        initial=Visibility.PRIVATE,
        help_text="Public: in the gallery. Unlisted: by its address. Private: only you.",
    )

    def clean_category(self) -> str:
        """Take none for the general one."""
        return self.cleaned_data["category"] or Category.GENERAL


class VersionForm(forms.Form):
    """A new version: nothing of it can be changed later."""

    weights_uri = forms.CharField(
        max_length=500,
        label="Weights",
        help_text="s3://BUCKET/PREFIX, hub://OWNER/NAME@REVISION, or file:///… in a directory "
        "that workers may read",
    )
    weights_digest = forms.CharField(
        max_length=71, label="Digest of the weights", help_text="sha256: and 64 hexadecimal digits"
    )
    family = forms.ChoiceField(choices=[(name, name) for name in FAMILIES if name != "noop"])
    input_schema = CleanJSONField(
        initial=DEFAULT_SCHEMA,
        encoder=PrettyEncoder,
        widget=forms.Textarea(attrs={"rows": 16, "class": "code", "spellcheck": "false"}),
        help_text="JSON Schema 2020-12 of the input: the playground is made from it.",
    )
    licence = forms.ModelChoiceField(queryset=Licence.objects.none(), empty_label=None)
    base = forms.CharField(
        required=False,
        label="Made from",
        help_text="vendor/name:number of the version this is derived from. Its vendor gets "
        "the royalty of its licence.",
    )
    parents = forms.CharField(
        required=False,
        label="And from",
        help_text="What else went into it: vendor/name:number of each, separated by spaces. Each "
        "has its royalty.",
    )
    lora = forms.BooleanField(
        required=False,
        label="LoRA",
        help_text="The weights are a LoRA of the version that it is made from, and run on that.",
    )
    profile = CleanJSONField(
        required=False,
        encoder=PrettyEncoder,
        widget=forms.Textarea(attrs={"rows": 3, "class": "code", "spellcheck": "false"}),
        help_text='What speed may cost: {"quality": "exact"}, high or fast. Empty: exact.',
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

    def offer_licences(self, licences: QuerySet[Licence]) -> None:
        """Let the vendor choose among these."""
        field = self.fields["licence"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = licences


_TIER = re.compile(r"(more|[0-9.]+)\s*:\s*([0-9.]+)")


class PriceForm(forms.Form):
    """A new price. Which fields count depends on the scheme; the style sheet hides the others."""

    unit = forms.ChoiceField(choices=in_words(Unit.choices), label="Price per")
    scheme = forms.ChoiceField(
        choices=[
            (Scheme.FLAT, "Each unit the same"),
            (Scheme.GRADUATED, "Graduated: each unit at the price of its tier"),
            (Scheme.VOLUME, "Volume: all units at the price of the tier reached"),
            (Scheme.PACKAGE, "Packages: a begun one is paid whole"),
        ],
        required=False,
        label="How it is counted",
    )
    unit_price = forms.DecimalField(
        min_value=0,
        max_digits=20,
        decimal_places=12,
        required=False,
        label="Price in USD",
        help_text="Of one unit, or of one package.",
    )
    package_size = forms.DecimalField(
        min_value=0, max_digits=16, decimal_places=6, required=False, label="Units in a package"
    )
    tiers = forms.CharField(
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 4, "class": "code", "spellcheck": "false"}),
        help_text="One a line, up to how many units and the price of one: 10: 0.004, and at last "
        "more: 0.003",
    )
    minimum = forms.DecimalField(
        min_value=0,
        max_digits=20,
        decimal_places=12,
        required=False,
        label="Minimum per call in USD",
    )
    free_quota = forms.DecimalField(
        min_value=0,
        max_digits=16,
        decimal_places=6,
        required=False,
        label="Free units a month",
        help_text="For each organisation, in each UTC month.",
    )
    for_org = forms.CharField(
        max_length=40,
        required=False,
        label="Only for",
        widget=forms.TextInput(attrs={"placeholder": " "}),
        help_text="The address of the organisation that negotiated this price, which may not be "
        "above the public one. Empty: everybody.",
    )
    ends_on = DayField(
        required=False,
        label="Last day",
        help_text="Of a negotiated price, in UTC. Empty: until you withdraw it.",
    )

    def clean_tiers(self) -> list[dict[str, str | None]]:
        """Read tiers, a line each."""
        found: list[dict[str, str | None]] = []
        for line in filter(None, map(str.strip, self.cleaned_data["tiers"].splitlines())):
            match = _TIER.fullmatch(line)
            if match is None:
                raise forms.ValidationError(f"{line[:40]!r} is not such a line as 10: 0.004")
            bound = None if match[1] == "more" else match[1]
            found.append({"up_to": bound, "unit_price": match[2]})
        return found

    def clean_for_org(self) -> Organisation | None:
        """Find the organisation."""
        slug = self.cleaned_data["for_org"].strip()
        if not slug:
            return None
        try:
            return organisation_get(slug)
        except NotFound as error:
            raise forms.ValidationError("There is no such organisation.") from error

    def arguments(self) -> dict[str, Any]:
        """Return what `price_set` takes, without what the scheme does not have."""
        data = self.cleaned_data
        scheme = data["scheme"] or Scheme.FLAT
        tiered = scheme in (Scheme.GRADUATED, Scheme.VOLUME)
        last = data["ends_on"]
        midnight = datetime.combine(last, time(), tzinfo=UTC) + timedelta(days=1) if last else None
        return {
            "unit": data["unit"],
            "scheme": scheme,
            "unit_price": Decimal(0) if tiered else data["unit_price"],
            "package_size": data["package_size"] if scheme == Scheme.PACKAGE else None,
            "tiers": data["tiers"] if tiered else [],
            "minimum": data["minimum"] or Decimal(0),
            "free_quota": data["free_quota"] or Decimal(0),
            "for_org": data["for_org"],
            "ends_at": midnight,
        }

    def clean(self) -> dict[str, Any]:
        """Ask for the price where there are no tiers to say it."""
        data = super().clean() or {}
        tiered = data.get("scheme") in (Scheme.GRADUATED, Scheme.VOLUME)
        if not tiered and data.get("unit_price") is None and "unit_price" not in self.errors:
            self.add_error("unit_price", "Say what it costs, or 0.")
        return data


class PromotionForm(forms.Form):
    """A promotion code to redeem."""

    code = forms.CharField(max_length=60, label="Promotion code")


class LicenceForm(forms.Form):
    """New terms, or the next number of terms with the same short name."""

    title = forms.CharField(max_length=120)
    slug = forms.CharField(
        max_length=40, label="Short name", help_text="An existing one makes its next version."
    )
    kind = forms.ChoiceField(choices=in_words(LicenceKind.choices))
    text = forms.CharField(max_length=100_000, widget=forms.Textarea(attrs={"rows": 8}))
    revenue_share = forms.DecimalField(
        min_value=0,
        max_value=100,
        decimal_places=2,
        initial=80,
        label="Vendors' share of each charge, %",
        help_text="The rest is the platform's fee.",
    )
    royalty = forms.DecimalField(
        min_value=0,
        max_value=100,
        decimal_places=2,
        initial=0,
        label="Your royalty on derived models, %",
        help_text="Of each charge of a model made from yours, taken from its vendors' share.",
    )
    needs_acceptance = forms.BooleanField(
        required=False,
        label="Callers must accept it",
        help_text="Non-commercial terms always have to be accepted before the first call.",
    )
