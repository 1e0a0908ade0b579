"""Tables of users, organisations, memberships, invitations, projects and API keys."""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower

from marketplace.accounts import webhook_models  # noqa: F401
from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now
from marketplace.core.ids import new_id

SLUG = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$",
    "Use 1 to 40 lower-case letters, digits and inner hyphens.",
)


BUDGET = models.Q(monthly_budget_nano__isnull=True) | models.Q(monthly_budget_nano__gte=0)


class UserManager(BaseUserManager["User"]):
    """Creates users, who are known by their e-mail address."""

    def create_user(self, email: str, password: str | None = None, **extra: Any) -> "User":
        """Create a person; no password means that only other sign-in methods work."""
        if not email:
            raise ValueError("A user needs an e-mail address.")
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        """Create a member of staff with every right."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractBaseUser, PermissionsMixin):
    """A person. What they may do follows from their memberships."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField(default=False, help_text="May open the staff console.")
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=now)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()

    class Meta:
        """Addresses differ by more than upper and lower case."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(Lower("email"), name="user_email_ci")
        ]

    def __str__(self) -> str:
        return self.email


class Organisation(models.Model):
    """The tenant: buys as developer, sells as vendor, often both."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    slug = models.CharField(max_length=40, unique=True, validators=[SLUG])
    name = models.CharField(max_length=120)
    about = models.TextField(blank=True, max_length=2000)
    website = models.URLField(blank=True)
    country = models.CharField(max_length=2, blank=True, help_text="ISO 3166 code.")
    webhook_secret = models.CharField(max_length=80, blank=True, editable=False)
    webhook_secret_shown_at = models.DateTimeField(null=True, blank=True, editable=False)
    webhook_secret_before = models.CharField(
        max_length=80, blank=True, editable=False, db_default=""
    )
    webhook_secret_before_until = models.DateTimeField(null=True, blank=True, editable=False)
    monthly_budget_nano = models.BigIntegerField(
        null=True, blank=True, help_text="Most that all its jobs may cost in a UTC month."
    )
    keep_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="How long inputs and outputs are kept. Empty: as set here."
    )
    suspended_at = models.DateTimeField(
        null=True, blank=True, help_text="Since then it neither calls nor sells."
    )
    created_at = models.DateTimeField(default=now, editable=False)
    members = models.ManyToManyField(User, through="Membership", related_name="organisations")

    class Meta:
        """A budget is not negative."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=BUDGET, name="organisation_budget_not_negative")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def webhook_secrets(self) -> list[str]:
        """Return what webhooks are signed with: the secret, and for a while the one before it."""
        until = self.webhook_secret_before_until
        before = [self.webhook_secret_before] if until is not None and until > now() else []
        return [self.webhook_secret, *before]


class Role(models.TextChoices):
    """What a member may do; OWNER and ADMIN may do everything but remove the last owner."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"


class Membership(models.Model):
    """A person's role in an organisation."""

    org = models.ForeignKey(Organisation, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """One role per person and organisation."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["org", "user"], name="one_membership_per_org")
        ]

    def __str__(self) -> str:
        return f"{self.user} as {self.role} of {self.org}"


class Invitation(models.Model):
    """An offer of membership to an e-mail address; only a digest of its token is stored."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=10, choices=Role)
    token_digest = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(User, models.SET_NULL, null=True)
    created_at = models.DateTimeField(default=now, editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    objects = OrgQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.email} to {self.org}"


class Project(models.Model):
    """A part of an organisation's work with a budget of its own: its keys spend from it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.PROTECT, related_name="projects")
    name = models.CharField(max_length=80)
    monthly_budget_nano = models.BigIntegerField(
        null=True, blank=True, help_text="Most that jobs of its keys may cost in a UTC month."
    )
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Names differ among the projects in use."""

        ordering: ClassVar[list[str]] = ["name"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                "org",
                Lower("name"),
                condition=models.Q(archived_at__isnull=True),
                name="project_name",
            ),
            models.CheckConstraint(condition=BUDGET, name="project_budget_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name


class Scope(models.TextChoices):
    """What a key may do."""

    RUN = "run", "Run models"
    READ = "read", "Read jobs, usage and models"
    ADMIN = "admin", "Manage keys and projects"
    BILLING = "billing", "Pay, and change billing details"


class ApiKey(models.Model):
    """A credential for programs. Only a keyed digest of the secret is stored."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org = models.ForeignKey(Organisation, models.CASCADE, related_name="api_keys")
    project = models.ForeignKey(
        Project, models.PROTECT, null=True, blank=True, related_name="api_keys"
    )
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=20, help_text="The visible beginning of the key.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    # After a rotation, the secret before it, until its grace is over. Null where there is none.
    before_digest = models.CharField(  # noqa: DJ001
        max_length=64, unique=True, null=True, editable=False
    )
    before_prefix = models.CharField(max_length=20, blank=True, editable=False, db_default="")
    before_until = models.DateTimeField(null=True, blank=True, editable=False)
    rotated_at = models.DateTimeField(null=True, blank=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=10, choices=Scope))
    monthly_budget_nano = models.BigIntegerField(
        null=True, blank=True, help_text="Most that jobs of this key may cost in a UTC month."
    )
    allowed_models = ArrayField(
        models.CharField(max_length=81),
        default=list,
        blank=True,
        help_text="vendor/name of the models this key may run; empty means all.",
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Newest first in lists."""

        verbose_name = "API key"

        ordering: ClassVar[list[str]] = ["-created_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=BUDGET, name="key_budget_not_negative")
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_limited(self) -> bool:
        """Tell whether a budget or a project limits it: it may not touch what is beyond that."""
        return self.project_id is not None or self.monthly_budget_nano is not None

    @property
    def is_usable(self) -> bool:
        """Tell whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now())

    @property
    def is_rotating(self) -> bool:
        """Tell whether the secret before the last rotation still works."""
        return self.is_usable and self.before_until is not None and self.before_until > now()


class AuditEvent(models.Model):
    """Who changed what in an organisation, and when: written with the change, never altered."""

    org = models.ForeignKey(Organisation, models.CASCADE, related_name="audit_events")
    at = models.DateTimeField(default=now, editable=False)
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, blank=True, related_name="+")
    actor = models.CharField(max_length=200, help_text="As it was called then.")
    action = models.CharField(max_length=40, help_text="Such as key.rotate.")
    target = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    trace_id = models.CharField(max_length=64, blank=True)
    objects = OrgQuerySet.as_manager()

    class Meta:
        """Newest first; ids rise with time, so a page goes on from an id."""

        ordering: ClassVar[list[str]] = ["-id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["org", "-id"], name="audit_newest"),
            models.Index(fields=["org", "action", "-id"], name="audit_action"),
            models.Index(fields=["org", "actor", "-id"], name="audit_actor"),
            models.Index(fields=["org", "at"], name="audit_period"),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.target}".strip()
