"""What staff see of invoices and of Stripe's count, and what they decide."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.invoicing import close, follow
from billing.models import Invoice, InvoiceLine, InvoiceStatus, MeterHour
from billing.stripe.gateway import GatewayError
from marketplace.console.rows import ReadOnly
from marketplace.core.errors import MarketError
from marketplace.core.money import format_usd


class InvoiceLineInline(admin.TabularInline):  # type: ignore[type-arg]
    """The lines of an invoice."""

    model = InvoiceLine
    extra = 0
    can_delete = False
    fields = ("position", "model_ref", "month", "calls", "amount_nano", "due_cents")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """The close writes them."""
        return False


@admin.register(Invoice)
class InvoiceAdmin(ReadOnly):
    """Invoices: drafts that are held back are approved here, payments by transfer marked."""

    list_display = ("__str__", "org", "month", "status", "used", "due", "held", "issued_at")
    list_filter = ("status", "month")
    list_select_related = ("org",)
    search_fields = ("=number", "org__slug", "=stripe_invoice_id")
    inlines = (InvoiceLineInline,)
    actions = ("approve", "mark_paid", "mark_uncollectible")

    def used(self, obj: Invoice) -> str:
        """Write what the calls cost."""
        return format_usd(obj.amount_nano)

    def due(self, obj: Invoice) -> str:
        """Write what is due."""
        return format_usd(obj.due_cents * 10_000_000)

    @admin.action(permissions=["act"], description="Approve: let the next close issue it")
    def approve(self, request: HttpRequest, queryset: "QuerySet[Invoice]") -> None:
        """Approve drafts that were held for their size."""
        for invoice in queryset:
            try:
                close.approve(invoice=invoice, by=request.user)
                self.message_user(request, f"{invoice} will be issued by the next close.")
            except MarketError as error:
                self.message_user(request, error.message, messages.ERROR)

    def _end(
        self, request: HttpRequest, queryset: "QuerySet[Invoice]", status: InvoiceStatus
    ) -> None:
        for invoice in queryset:
            try:
                done = follow.end_by_hand(invoice=invoice, status=status)
                text = f"is {status.label.lower()} now" if done else "had ended before"
                self.message_user(request, f"{invoice} {text}.")
            except (MarketError, GatewayError) as error:
                self.message_user(request, f"{invoice}: {error}", messages.ERROR)

    @admin.action(permissions=["act"], description="Mark as paid (by transfer, not by Stripe)")
    def mark_paid(self, request: HttpRequest, queryset: "QuerySet[Invoice]") -> None:
        """Book that the money came in another way."""
        self._end(request, queryset, InvoiceStatus.PAID)

    @admin.action(permissions=["act"], description="Give up: nobody will pay it")
    def mark_uncollectible(self, request: HttpRequest, queryset: "QuerySet[Invoice]") -> None:
        """Book the rest as a loss."""
        self._end(request, queryset, InvoiceStatus.UNCOLLECTIBLE)


@admin.register(MeterHour)
class MeterHourAdmin(ReadOnly):
    """What Stripe counted beside what it was told."""

    list_display = ("hour", "org", "funding", "sent_micro_usd", "seen_micro_usd", "checked_at")
    list_filter = ("funding",)
    list_select_related = ("org",)
    search_fields = ("org__slug",)
