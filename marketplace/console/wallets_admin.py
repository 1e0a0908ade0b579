"""What staff see of credit, projects, alerts, and events of accounts."""

from django.contrib import admin

from billing.models import Grant, SpendAlert
from marketplace.accounts.models import Project
from marketplace.accounts.webhook_models import AccountEvent
from marketplace.console.rows import OutboxAdmin, ReadOnly
from marketplace.core.money import format_usd


@admin.register(Grant)
class GrantAdmin(ReadOnly):
    """Credit given away."""

    list_display = ("created_at", "org", "amount", "left", "priority", "expires_at", "note")
    list_select_related = ("org",)
    search_fields = ("=id", "org__slug", "note")

    def amount(self, obj: Grant) -> str:
        """Write the amount."""
        return format_usd(obj.amount_nano)

    def left(self, obj: Grant) -> str:
        """Write what is left."""
        return format_usd(obj.remaining_nano)


@admin.register(Project)
class ProjectAdmin(ReadOnly):
    """Projects with their budgets."""

    list_display = ("name", "org", "budget", "created_at", "archived_at")
    list_select_related = ("org",)
    search_fields = ("name", "org__slug")

    def budget(self, obj: Project) -> str:
        """Write the monthly budget."""
        nano = obj.monthly_budget_nano
        return "" if nano is None else format_usd(nano)


@admin.register(SpendAlert)
class SpendAlertAdmin(ReadOnly):
    """Thresholds that were crossed."""

    list_display = ("created_at", "org", "subject", "percent", "month", "mailed_at")
    list_select_related = ("org",)
    search_fields = ("org__slug", "subject")


@admin.register(AccountEvent)
class AccountEventAdmin(OutboxAdmin):
    """What organisations' servers are told of their accounts."""

    list_display = ("created_at", "event", "org", "delivery", "attempts", "last_status")
    list_select_related = ("org",)
    search_fields = ("=id", "org__slug")
    exclude = ("payload",)
