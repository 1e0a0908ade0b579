"""The shapes of API v1, for validation of requests and for the OpenAPI document."""

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers

from marketplace.accounts.models import Scope
from marketplace.accounts.rotation import MOST_GRACE_H
from marketplace.api.strict import Strict
from marketplace.catalog.models import DeclaredUse, LicenceKind, Scheme, Task, Unit
from marketplace.jobs import requests
from marketplace.jobs.models import JobStatus


def page_of(item: type[serializers.Serializer]) -> serializers.Serializer:  # type: ignore[type-arg]
    """Return the shape of one page of `item`."""
    return inline_serializer(
        f"{item.__name__}Page",
        {
            "next": serializers.CharField(allow_null=True, help_text="URL of the next page."),
            "previous": serializers.CharField(allow_null=True),
            "results": item(many=True),
        },
    )


class JobCreate(Strict):
    """A call of a model."""

    model = serializers.CharField(
        max_length=100, help_text="`vendor/name`, or `vendor/name:3` for version 3."
    )
    input = serializers.JSONField(help_text="As the version's input schema says.")
    max_charge_nano_usd = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=2**63 - 1,
        help_text="Refuse the job if its quote is higher, for the price may have changed.",
    )
    webhook_url = serializers.CharField(
        required=False, allow_blank=True, max_length=2000, help_text="Is told when the job ends."
    )
    keep_s = serializers.IntegerField(
        required=False,
        min_value=requests.LEAST_KEEP_S,
        max_value=2**31 - 1,
        help_text="Delete input and outputs so many seconds after the end, if that is earlier.",
    )
    start_within_s = serializers.FloatField(
        required=False,
        min_value=1,
        max_value=86_400,
        help_text="Fail with `start_timeout`, for free, if no worker has taken it by then.",
    )
    priority = serializers.ChoiceField(
        list(requests.PRIORITIES), required=False, help_text="`low` goes after all that is not."
    )


class QuoteCreate(Strict):
    """An input to price."""

    input = serializers.JSONField()


class KeyCreate(Strict):
    """A new API key."""

    name = serializers.CharField(max_length=80)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(Scope.choices), required=False, min_length=1
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    monthly_budget_nano_usd = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=2**63 - 1
    )
    allowed_models = serializers.ListField(
        child=serializers.CharField(max_length=81), required=False, max_length=100
    )
    project = serializers.UUIDField(
        required=False, allow_null=True, help_text="The project whose budget it spends from."
    )


class FileCreate(Strict):
    """A file that is about to be uploaded."""

    name = serializers.CharField(max_length=200)
    content_type = serializers.ChoiceField(
        ["image/png", "image/jpeg", "image/webp", "video/mp4", "application/octet-stream"]
    )


class Line(serializers.Serializer):  # type: ignore[type-arg]
    """One line of an explained charge."""

    what = serializers.CharField()
    quantity = serializers.CharField()
    unit_price_usd = serializers.CharField()
    amount_usd = serializers.CharField()


class Quote(serializers.Serializer):  # type: ignore[type-arg]
    """The most that a job with this input can cost."""

    model = serializers.CharField()
    quote_nano_usd = serializers.IntegerField()
    quote_usd = serializers.CharField()
    lines = Line(many=True)
    input = serializers.JSONField(help_text="With defaults filled in.")


class Price(serializers.Serializer):  # type: ignore[type-arg]
    """The current price of a version."""

    unit = serializers.ChoiceField(Unit.choices)
    scheme = serializers.ChoiceField(Scheme.choices)
    unit_price_usd = serializers.CharField(help_text="For packages, the price of one.")
    package_size = serializers.CharField(allow_null=True, help_text="Units in a package.")
    minimum_usd = serializers.CharField(help_text="Per call.")
    tiers = serializers.JSONField()
    free_quota = serializers.CharField(help_text="Units free to each organisation a month.")
    negotiated = serializers.BooleanField(help_text="This price is your organisation's own.")
    ends_at = serializers.DateTimeField(allow_null=True, help_text="When a negotiated price ends.")


class Licence(serializers.Serializer):  # type: ignore[type-arg]
    """The terms of a version."""

    id = serializers.UUIDField()
    title = serializers.CharField()
    kind = serializers.ChoiceField(LicenceKind.choices)
    number = serializers.IntegerField()
    text_digest = serializers.CharField()
    revenue_share_bps = serializers.IntegerField()
    royalty_bps = serializers.IntegerField()
    must_be_accepted = serializers.BooleanField(
        help_text="Callers accept it first: POST /v1/licences/{id}/accept."
    )


class LicenceText(Licence):
    """Terms with their text."""

    text = serializers.CharField()


class LicenceAccept(Strict):
    """Acceptance of terms on behalf of the organisation."""

    text_digest = serializers.CharField(
        max_length=71, help_text="As given with the text: it says which text was read."
    )
    declared_use = serializers.ChoiceField(DeclaredUse.choices)


class LicenceAcceptance(serializers.Serializer):  # type: ignore[type-arg]
    """A recorded acceptance."""

    id = serializers.UUIDField()
    licence = serializers.UUIDField()
    text_digest = serializers.CharField()
    declared_use = serializers.ChoiceField(DeclaredUse.choices)
    accepted_at = serializers.DateTimeField()


class Version(serializers.Serializer):  # type: ignore[type-arg]
    """An immutable version."""

    id = serializers.UUIDField()
    number = serializers.IntegerField()
    family = serializers.CharField()
    hardware_class = serializers.CharField()
    weights_digest = serializers.CharField()
    input_schema = serializers.JSONField()
    price = Price(allow_null=True)
    licence = Licence()
    base = serializers.CharField(allow_null=True)
    parents = serializers.ListField(
        child=serializers.CharField(), help_text="What else it was made from."
    )
    lora = serializers.BooleanField(help_text="A LoRA, which runs on the weights of `base`.")
    listed_at = serializers.DateTimeField(allow_null=True)
    ends_at = serializers.DateTimeField(
        allow_null=True, help_text="From when on it cannot be called any more, if that is known."
    )
    end_note = serializers.CharField(help_text="What to use instead.")


class Model(serializers.Serializer):  # type: ignore[type-arg]
    """A listing with its current version."""

    id = serializers.UUIDField()
    model = serializers.CharField(help_text="`vendor/name`")
    vendor = serializers.CharField()
    name = serializers.CharField()
    title = serializers.CharField()
    summary = serializers.CharField()
    description = serializers.CharField()
    task = serializers.ChoiceField(Task.choices)
    created_at = serializers.DateTimeField()
    version = Version(allow_null=True)


class JobError(serializers.Serializer):  # type: ignore[type-arg]
    """Why a job failed."""

    code = serializers.CharField()
    message = serializers.CharField()


class Output(serializers.Serializer):  # type: ignore[type-arg]
    """A file that a job made; the URL is signed and short-lived."""

    id = serializers.UUIDField()
    url = serializers.CharField(allow_null=True)
    content_type = serializers.CharField()
    size = serializers.IntegerField(allow_null=True)
    sha256 = serializers.CharField()
    width = serializers.IntegerField(allow_null=True)
    height = serializers.IntegerField(allow_null=True)
    seconds = serializers.FloatField(allow_null=True)
    nsfw = serializers.BooleanField(
        allow_null=True, help_text="What the model's safety checker says; null where it has none."
    )


class JobUrls(serializers.Serializer):  # type: ignore[type-arg]
    """Where to go from here."""

    get = serializers.CharField()
    cancel = serializers.CharField()
    events = serializers.CharField()


class Job(serializers.Serializer):  # type: ignore[type-arg]
    """One call of a model."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(JobStatus.choices)
    model = serializers.CharField(help_text="`vendor/name:version`")
    input = serializers.JSONField()
    outputs = Output(many=True)
    result = serializers.JSONField()
    error = JobError(allow_null=True)
    quote_nano_usd = serializers.IntegerField()
    charge_nano_usd = serializers.IntegerField(allow_null=True)
    charge_lines = Line(
        many=True, allow_null=True, help_text="What the charge is made of; not in lists."
    )
    queue_position = serializers.IntegerField(
        allow_null=True, help_text="Jobs before this one; told by GET and events while queued."
    )
    attempt = serializers.IntegerField()
    usage = serializers.JSONField()
    timings_ms = serializers.JSONField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    purged_at = serializers.DateTimeField(
        allow_null=True, help_text="When its inputs and outputs were deleted."
    )
    deadline_at = serializers.DateTimeField()
    start_by = serializers.DateTimeField(allow_null=True)
    priority = serializers.ChoiceField(list(requests.PRIORITIES))
    data_expires_at = serializers.DateTimeField(
        allow_null=True, help_text="When input and outputs are deleted."
    )
    urls = JobUrls()


class Key(serializers.Serializer):  # type: ignore[type-arg]
    """An API key, without its secret."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices))
    project = serializers.UUIDField(allow_null=True)
    monthly_budget_nano_usd = serializers.IntegerField(allow_null=True)
    allowed_models = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    rotated_at = serializers.DateTimeField(allow_null=True)
    old_secret_until = serializers.DateTimeField(
        allow_null=True, help_text="Until then the secret before the rotation works too."
    )
    created_at = serializers.DateTimeField()


class KeyRotate(Strict):
    """How to replace a key's secret."""

    grace_hours = serializers.IntegerField(
        min_value=0,
        max_value=MOST_GRACE_H,
        default=24,
        help_text="How much longer the old secret works; 0 ends it at once.",
    )


class NewKey(Key):
    """A key just made: the only time its secret is shown."""

    key = serializers.CharField()


class Upload(serializers.Serializer):  # type: ignore[type-arg]
    """How to send the bytes: an HTTP request with exactly this method and these headers."""

    method = serializers.CharField()
    url = serializers.CharField()
    headers = serializers.DictField(child=serializers.CharField())
    max_bytes = serializers.IntegerField()


class File(serializers.Serializer):  # type: ignore[type-arg]
    """A stored file."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    content_type = serializers.CharField()
    size = serializers.IntegerField(allow_null=True)
    url = serializers.CharField(allow_null=True)
    upload = Upload(required=False)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class Balance(serializers.Serializer):  # type: ignore[type-arg]
    """What the organisation can spend."""

    prepaid_nano_usd = serializers.IntegerField()
    granted_nano_usd = serializers.IntegerField()
    owed_nano_usd = serializers.IntegerField()
    held_nano_usd = serializers.IntegerField()
    credit_limit_nano_usd = serializers.IntegerField()
    available_nano_usd = serializers.IntegerField()


class Day(serializers.Serializer):  # type: ignore[type-arg]
    """Sums of one UTC day."""

    day = serializers.DateField()
    count = serializers.IntegerField()
    amount_nano_usd = serializers.IntegerField()


class Usage(serializers.Serializer):  # type: ignore[type-arg]
    """Spending of the last 30 days, and the balance."""

    total_nano_usd = serializers.IntegerField()
    days = Day(many=True)
    balance = Balance()


class Earnings(serializers.Serializer):  # type: ignore[type-arg]
    """Shares and royalties earned: in all, and by day for the last 30 days."""

    total_nano_usd = serializers.IntegerField()
    days = Day(many=True)


class Error(serializers.Serializer):  # type: ignore[type-arg]
    """Every error has this form."""

    error = serializers.JSONField(help_text="code, message, fields {field: [messages]}, …")
    request_id = serializers.CharField()
