"""What staff see and may do: review versions, read money, replay what failed."""

from typing import Any

from allauth.account.models import EmailAddress
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.models import Account, Hold, Incident, MeterBatch, Transfer
from billing.selectors import balance_of, shard_count_of
from marketplace.accounts.models import ApiKey, Membership, Organisation, User
from marketplace.catalog.models import Licence, Model, Status, Version
from marketplace.catalog.services import version_decide
from marketplace.console import (
    charges_admin,
    invoices_admin,
    payments_admin,
    payouts_admin,
    terms_admin,
    wallets_admin,
)
from marketplace.console.credit import CreditForm, not_for
from marketplace.console.rows import Audited, NoteForm, OutboxAdmin, ReadOnly
from marketplace.core.clock import now
from marketplace.core.errors import MarketError
from marketplace.core.ids import parse_id
from marketplace.core.money import format_usd
from marketplace.core.outbox import Delivery
from marketplace.jobs.models import Job, WebhookDelivery

__all__ = [
    "charges_admin",
    "invoices_admin",
    "payments_admin",
    "payouts_admin",
    "terms_admin",
    "wallets_admin",
]
"""Django finds this module only, and registers what it imports."""


@admin.register(User)
class UserAdmin(Audited):
    """People."""

    list_display = ("email", "name", "is_staff", "is_active", "date_joined")
    list_filter = ("is_staff", "is_active")
    search_fields = ("email", "name")
    fields = ("email", "name", "is_active", "is_staff", "is_superuser", "date_joined")
    readonly_fields = ("email", "date_joined")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Only superusers make staff or superusers."""
        if request.user.is_superuser:
            return self.readonly_fields
        return (*self.readonly_fields, "is_staff", "is_superuser")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """People sign up themselves."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only superusers change staff."""
        may = bool(super().has_change_permission(request, obj))
        return may and (request.user.is_superuser or not getattr(obj, "is_staff", False))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deactivate instead: the ledger must stay explicable."""
        return False


@admin.register(Group)
class StaffGroupAdmin(Audited, GroupAdmin):
    """What staff may do, by group. Who could change one would give themselves every right."""

    filter_horizontal = ()  # Django's two boxes break a rule of ARIA; a plain list does not

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only superusers give rights."""
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only superusers give rights."""
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Empty it instead: a deletion is not written into the audit."""
        return False


@admin.register(EmailAddress)
class EmailAddressAdmin(ReadOnly):
    """Addresses that people sign in with: another one would be another's way in."""

    list_display = ("email", "user", "primary", "verified")
    list_filter = ("primary", "verified")
    search_fields = ("email",)
    list_select_related = ("user",)


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    """Members of an organisation."""

    model = Membership
    extra = 0
    can_delete = False
    fields = ("user", "role", "created_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Members are invited by their own."""
        return False


@admin.register(Organisation)
class OrganisationAdmin(Audited):
    """Tenants and their credit."""

    form = CreditForm
    list_display = ("name", "slug", "country", "created_at")
    search_fields = ("name", "slug", "memberships__user__email")
    readonly_fields = ("slug", "created_at", "balance")
    fields = (
        "name", "slug", "about", "website", "country", "created_at",
        "balance", "grant_usd", "grant_priority", "grant_until", "grant_scope", "grant_note",
        "credit_limit_usd", "shards", "nonce",
    )  # fmt: skip
    inlines = (MembershipInline,)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Leave out what one may not book; `CreditForm.book` refuses it too."""
        hidden = not_for(request.user)
        return [name for name in self.fields if name not in hidden]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Organisations are founded by their owners."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The ledger refers to them for good."""
        return False

    def balance(self, obj: Organisation) -> str:
        """Write the wallet in a line."""
        own = balance_of(obj.pk)
        return (
            f"{format_usd(own.available_nano)} available: {format_usd(own.granted_nano)} granted, "
            f"{format_usd(own.prepaid_nano)} prepaid, {format_usd(own.owed_nano)} owed of "
            f"a limit of {format_usd(own.credit_limit_nano)}, {format_usd(own.held_nano)} held, "
            f"in {shard_count_of(obj.pk)} shard(s)"
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, then book what was asked for."""
        super().save_model(request, obj, form, change)
        for line in form.book(request, obj):
            self.message_user(request, line)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly):
    """Keys, by their visible prefix."""

    list_display = ("prefix", "name", "org", "scopes", "last_used_at", "expires_at", "revoked_at")
    search_fields = ("prefix", "name", "org__slug")
    list_select_related = ("org",)
    exclude = ("digest",)


@admin.register(Version)
class VersionAdmin(ReadOnly):
    """All versions; one of them is shown by the review's page."""

    list_display = ("__str__", "status", "family", "hardware_class", "licence", "created_at")
    list_filter = ("status", "family", "hardware_class")
    list_select_related = ("model__org", "licence")
    search_fields = ("model__name", "model__org__slug")
    action_form = NoteForm
    actions = ("list_versions", "send_back", "suspend")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show the page of the review instead of the bare row."""
        if request.method == "GET":
            return redirect("admin:review-version", parse_id(object_id))
        return super().change_view(request, object_id, form_url, extra_context)

    def _decide(
        self, request: HttpRequest, queryset: "QuerySet[Version]", after: Status, verb: str
    ) -> None:
        note = request.POST.get("note", "")
        for version in queryset.select_related("model__org", "licence"):
            try:
                version_decide(version=version, after=after, by=request.user, note=note)  # type: ignore[arg-type]
                self.message_user(request, f"{version} was {verb}.")
            except MarketError as error:
                self.message_user(request, f"{version}: {error.message}", messages.ERROR)

    @admin.action(permissions=["act"], description="List: open to callers")
    def list_versions(self, request: HttpRequest, queryset: "QuerySet[Version]") -> None:
        """List submitted or suspended versions."""
        self._decide(request, queryset, Status.LISTED, "listed")

    @admin.action(permissions=["act"], description="Send back to draft (needs a note)")
    def send_back(self, request: HttpRequest, queryset: "QuerySet[Version]") -> None:
        """Return submitted versions to their vendor."""
        self._decide(request, queryset, Status.DRAFT, "sent back")

    @admin.action(permissions=["act"], description="Suspend (needs a note)")
    def suspend(self, request: HttpRequest, queryset: "QuerySet[Version]") -> None:
        """Close listed versions to callers; running jobs go on."""
        self._decide(request, queryset, Status.SUSPENDED, "suspended")


@admin.register(Model)
class ModelAdmin(ReadOnly):
    """Listings."""

    list_display = ("__str__", "title", "task", "visibility", "created_at")
    list_filter = ("task", "visibility")
    list_select_related = ("org",)
    search_fields = ("name", "title", "org__slug")


@admin.register(Licence)
class LicenceAdmin(ReadOnly):
    """Terms."""

    list_display = ("__str__", "org", "kind", "revenue_share_bps", "royalty_bps", "created_at")
    list_filter = ("kind",)
    list_select_related = ("org",)


@admin.register(Job)
class JobAdmin(ReadOnly):
    """Calls, without their prompts."""

    list_display = ("id", "status", "org", "version", "attempt", "quote", "charge", "created_at")
    list_filter = ("status", "queue")
    list_select_related = ("org", "version__model__org")
    search_fields = ("=id", "org__slug", "trace_id")
    exclude = ("input", "result", "webhook_url", "request_digest")
    show_full_result_count = False

    def quote(self, obj: Job) -> str:
        """Write the quote."""
        return format_usd(obj.quote_nano)

    def charge(self, obj: Job) -> str:
        """Write the charge."""
        return "" if obj.charge_nano is None else format_usd(obj.charge_nano)


@admin.register(Transfer)
class TransferAdmin(ReadOnly):
    """The ledger."""

    list_display = ("occurred_at", "kind", "debit", "credit", "amount", "source_id")
    list_filter = ("kind",)
    list_select_related = ("debit__org", "credit__org")
    search_fields = ("=source_id", "debit__org__slug", "credit__org__slug")
    date_hierarchy = "occurred_at"
    show_full_result_count = False

    def amount(self, obj: Transfer) -> str:
        """Write the amount."""
        return format_usd(obj.amount_nano)


@admin.register(Account)
class AccountAdmin(ReadOnly):
    """The chart of accounts."""

    list_display = ("kind", "org")
    list_filter = ("kind",)
    list_select_related = ("org",)
    search_fields = ("org__slug",)


@admin.register(Hold)
class HoldAdmin(ReadOnly):
    """Reservations."""

    list_display = ("created_at", "org", "state", "amount_nano", "source_id")
    list_filter = ("state",)
    list_select_related = ("org",)
    search_fields = ("=source_id", "org__slug")
    show_full_result_count = False


@admin.register(MeterBatch)
class MeterBatchAdmin(OutboxAdmin):
    """What Stripe is told."""

    list_display = ("minute", "org", "funding", "micro_usd", "delivery", "attempts", "last_error")
    list_select_related = ("org",)
    search_fields = ("=id", "org__slug")
    actions = ("replay", "known_to_stripe")

    @admin.action(permissions=["act"], description="Stripe has it: count failed rows as delivered")
    def known_to_stripe(self, request: HttpRequest, queryset: "QuerySet[MeterBatch]") -> None:
        """Record that Stripe has failed batches, and who said so."""
        failed = queryset.filter(delivery=Delivery.FAILED)
        for batch in failed:
            self.log_change(request, batch, "Stripe has it.")
        count = MeterBatch.known_to_stripe(failed)
        self.message_user(request, f"{count} batches count as delivered.")


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(OutboxAdmin):
    """What developers' servers are told."""

    list_display = ("created_at", "event", "org", "delivery", "attempts", "last_status")
    list_select_related = ("org",)
    search_fields = ("=id", "=job__id", "org__slug")
    exclude = ("payload",)


@admin.register(Incident)
class IncidentAdmin(ReadOnly):
    """What went wrong and is not settled."""

    list_display = ("rule", "opened_at", "resolved_at")
    list_filter = (("resolved_at", admin.EmptyFieldListFilter),)
    actions = ("resolve",)

    @admin.action(permissions=["act"], description="Mark as resolved")
    def resolve(self, request: HttpRequest, queryset: "QuerySet[Incident]") -> None:
        """Close incidents; the next audit opens them again if they are not settled."""
        count = queryset.filter(resolved_at__isnull=True).update(resolved_at=now())
        self.message_user(request, f"{count} incidents were resolved.")
