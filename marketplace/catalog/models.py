"""Tables of models, versions, licences, prices and review decisions."""

from typing import ClassVar

from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

from marketplace.accounts.models import ApiKey, Organisation, User
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.catalog import (  # (tables of this app too)
    listing_models,  # noqa: F401
    promotion_models,  # noqa: F401
    rollout_models,  # noqa: F401
    sample_models,  # noqa: F401
    standing_models,  # noqa: F401
)
from marketplace.catalog.querysets import ModelQuerySet, VersionQuerySet
from marketplace.core.clock import now
from marketplace.core.ids import new_id

MODEL_NAME = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9.-]{0,38}[a-z0-9])?$",
    "Use 1 to 40 lower-case letters, digits, inner dots and hyphens.",
)
DIGEST = RegexValidator(r"^sha256:[0-9a-f]{64}$", "Write sha256: and 64 hexadecimal digits.")


class Visibility(models.TextChoices):
    """Who can find a model."""

    PRIVATE = "private"
    UNLISTED = "unlisted"
    PUBLIC = "public"


class Task(models.TextChoices):
    """What goes in and what comes out."""

    TEXT_TO_IMAGE = "text-to-image", "Text to image"
    IMAGE_TO_IMAGE = "image-to-image", "Image to image"
    TEXT_TO_VIDEO = "text-to-video", "Text to video"
    IMAGE_TO_VIDEO = "image-to-video", "Image to video"


class Category(models.TextChoices):
    """What people look for it for."""

    GENERAL = "general"
    PHOTOGRAPHY = "photography"
    ILLUSTRATION = "illustration"
    DESIGN = "design"
    CHARACTERS = "characters"
    EDITING = "editing"
    FILM = "film"


class Status(models.TextChoices):
    """Where a version stands in review."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    LISTED = "listed"
    SUSPENDED = "suspended"


class LicenceKind(models.TextChoices):
    """Which uses the terms allow."""

    OPEN = "open"
    NON_COMMERCIAL = "non-commercial"
    COMMERCIAL = "commercial"


class Unit(models.TextChoices):
    """What a price counts."""

    IMAGE = "image"
    MEGAPIXEL = "megapixel"
    OUTPUT_SECOND = "output_second"
    FRAME = "frame"
    GPU_SECOND = "gpu_second"
    STEP = "step"
    REQUEST = "request"
    CHARACTER = "character"


class Scheme(models.TextChoices):
    """How units become money: see `billing.rating.PriceTerms`."""

    FLAT = "flat"
    GRADUATED = "graduated"
    VOLUME = "volume"
    PACKAGE = "package"


class DeclaredUse(models.TextChoices):
    """What an organisation says that it uses a licensed model for."""

    NON_COMMERCIAL = "non-commercial"
    COMMERCIAL = "commercial"


class Licence(models.Model):
    """The terms of a version. A row never changes; new terms are a new row with a higher number.

    `revenue_share_bps` of each charge goes to the vendors, the rest is the platform's fee. Of
    the charges of versions *derived* from this one, `royalty_bps` is this vendor's, taken from
    the vendors' part. An organisation must accept non-commercial terms, and others that say so,
    before its first call.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="licences")
    slug = models.CharField(max_length=40, validators=[MODEL_NAME])
    number = models.PositiveIntegerField(default=1)
    title = models.CharField(max_length=120)
    kind = models.CharField(max_length=16, choices=LicenceKind)
    text = models.TextField(max_length=100_000)
    text_digest = models.CharField(max_length=71, validators=[DIGEST], editable=False)
    revenue_share_bps = models.PositiveIntegerField(validators=[MaxValueValidator(10_000)])
    royalty_bps = models.PositiveIntegerField(default=0, validators=[MaxValueValidator(10_000)])
    needs_acceptance = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """One row per number; shares are at most the whole."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "slug", "number"], name="licence_number"),
            models.CheckConstraint(
                condition=Q(revenue_share_bps__lte=10_000) & Q(royalty_bps__lte=10_000),
                name="licence_shares_at_most_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title} v{self.number}"

    @property
    def must_be_accepted(self) -> bool:
        """Tell whether a caller has to accept the text first."""
        return self.needs_acceptance or self.kind == LicenceKind.NON_COMMERCIAL


class LicenceAcceptance(models.Model):
    """An organisation's word: for which use it accepted which text, by whom and when."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="acceptances")
    licence = models.ForeignKey(Licence, models.PROTECT, related_name="acceptances")
    text_digest = models.CharField(max_length=71, validators=[DIGEST])
    declared_use = models.CharField(max_length=16, choices=DeclaredUse)
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, blank=True)
    accepted_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Each use is declared once."""

        ordering: ClassVar[list[str]] = ["-accepted_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["org", "licence", "declared_use"], name="licence_accepted_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.licence} for {self.declared_use} use"


class Model(models.Model):
    """A listing, known as `vendor/name`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="models")
    name = models.CharField(max_length=40, validators=[MODEL_NAME])
    title = models.CharField(max_length=120)
    summary = models.CharField(max_length=240, blank=True)
    description = models.TextField(blank=True, max_length=20_000)
    task = models.CharField(max_length=20, choices=Task)
    category = models.CharField(max_length=16, choices=Category, default=Category.GENERAL)
    visibility = models.CharField(max_length=10, choices=Visibility, default=Visibility.PRIVATE)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = ModelQuerySet.as_manager()

    class Meta:
        """A name is unique within its vendor."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "name"], name="model_name")
        ]

    def __str__(self) -> str:
        return self.ref

    @property
    def ref(self) -> str:
        """Return `vendor/name`."""
        return f"{self.org.slug}/{self.name}"


class Version(models.Model):
    """Everything that determines what a call does. Only `status` and `listed_at` ever change."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    model = models.ForeignKey(Model, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    weights_uri = models.CharField(max_length=500)
    weights_digest = models.CharField(max_length=71, validators=[DIGEST])
    family = models.CharField(max_length=20)
    input_schema = models.JSONField()
    profile = models.JSONField(default=dict, blank=True)
    hardware_class = models.CharField(max_length=20, default="small")
    max_engine_s = models.PositiveIntegerField(
        default=120, help_text="Most seconds on the device that one job may take."
    )
    licence = models.ForeignKey(Licence, models.PROTECT, related_name="versions")
    base = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="derived")
    lora = models.BooleanField(
        default=False, help_text="A change to the weights of its base, which it runs on."
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.DRAFT)
    created_at = models.DateTimeField(default=now, editable=False)
    listed_at = models.DateTimeField(null=True, blank=True)
    objects = VersionQuerySet.as_manager()

    class Meta:
        """Numbers count up within a model."""

        ordering: ClassVar[list[str]] = ["-number"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["model", "number"], name="version_number"),
            models.CheckConstraint(
                condition=Q(base__isnull=True) | ~Q(base=F("id")), name="version_not_own_base"
            ),
            models.CheckConstraint(
                condition=Q(lora=False) | Q(base__isnull=False), name="version_lora_has_base"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model.ref}:{self.number}"


class VersionParent(models.Model):
    """What a version was made from besides its base: a merge or a workflow can name several."""

    version = models.ForeignKey(Version, models.PROTECT, related_name="parent_links")
    parent = models.ForeignKey(Version, models.PROTECT, related_name="child_links")
    position = models.PositiveSmallIntegerField()

    class Meta:
        """Each parent is named once."""

        ordering: ClassVar[list[str]] = ["position"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["version", "parent"], name="version_parent_once"),
            models.CheckConstraint(
                condition=~Q(version=F("parent")), name="version_not_own_parent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} from {self.parent}"


class Price(models.Model):
    """A price version: the newest row of a version is its price, older ones explain old charges.

    `unit_price` is in USD for one unit, or for one package of `package_size` units. `tiers` is a
    list of {"up_to": quantity or null, "unit_price": USD} that replaces it. Of each UTC month
    `free_quota` units are free to each organisation. A row with `org` is negotiated: it counts
    for that organisation alone, before any other, until `ends_at`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    version = models.ForeignKey(Version, models.PROTECT, related_name="prices")
    org = models.ForeignKey(
        Organisation, models.PROTECT, null=True, blank=True, related_name="negotiated_prices"
    )
    ends_at = models.DateTimeField(null=True, blank=True)
    unit = models.CharField(max_length=16, choices=Unit)
    scheme = models.CharField(max_length=9, choices=Scheme, default=Scheme.FLAT)
    unit_price = models.DecimalField(max_digits=20, decimal_places=12)
    package_size = models.DecimalField(max_digits=20, decimal_places=6, null=True, blank=True)
    free_quota = models.DecimalField(max_digits=20, decimal_places=6, default=0)
    minimum = models.DecimalField(max_digits=20, decimal_places=12, default=0)
    tiers = models.JSONField(default=list, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        """Prices are not negative."""

        ordering: ClassVar[list[str]] = ["-created_at"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["version", "org", "-created_at"], name="price_newest")
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(unit_price__gte=0, minimum__gte=0, free_quota__gte=0),
                name="price_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(org__isnull=False),
                name="price_only_negotiated_ends",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.unit_price.normalize():f} USD per {self.unit}"


class FreeQuotaUse(models.Model):
    """Free units of a version that an organisation used, or holds for live jobs, in a UTC month.

    It counts by version and unit, not by price: a new price is no second quota.
    """

    org = models.ForeignKey(Organisation, models.PROTECT, related_name="free_quota_uses")
    version = models.ForeignKey(Version, models.PROTECT, related_name="free_quota_uses")
    unit = models.CharField(max_length=16, choices=Unit)
    month = models.DateField()
    used = models.DecimalField(max_digits=20, decimal_places=6, default=0)
    held = models.DecimalField(max_digits=20, decimal_places=6, default=0)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """One row a month."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["org", "version", "unit", "month"], name="free_quota_month"
            ),
            models.CheckConstraint(
                condition=Q(used__gte=0, held__gte=0), name="free_quota_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.used} {self.unit} in {self.month:%Y-%m}"


class ReviewDecision(models.Model):
    """One change of a version's status: who, when and why."""

    version = models.ForeignKey(Version, models.PROTECT, related_name="decisions")
    before = models.CharField(max_length=10, choices=Status)
    after = models.CharField(max_length=10, choices=Status)
    note = models.TextField(blank=True, max_length=4000)
    by = models.ForeignKey(User, models.SET_NULL, null=True)
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        """Oldest first."""

        ordering: ClassVar[list[str]] = ["created_at"]

    def __str__(self) -> str:
        return f"{self.version}: {self.before} to {self.after}"
