"""The admin site with its own front page, health summary and ledger figures."""

from typing import Any

from allauth.account.decorators import secure_admin_login
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator
from redis.exceptions import RedisError

from billing import invariants
from billing.invoicing.selectors import invoices_waiting
from billing.models import Incident, MeterBatch, Payout, PayoutState, StripeEvent
from billing.stripe.gateway import gateway_from_settings
from billing.totals import six_totals
from marketplace.catalog.models import Status, Version
from marketplace.core.outbox import Delivery
from marketplace.jobs.models import Job, WebhookDelivery
from marketplace.jobs.workers import workers_alive


class ConsoleSite(admin.AdminSite):
    """Staff only; the front page says what needs a person."""

    site_header = "Mercato console"
    site_title = "Mercato console"
    index_title = "The market today"
    site_url = "/"
    index_template = "console/index.html"

    @method_decorator(secure_admin_login)
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Send visitors to the market's own sign-in, with its second factor and rate limits.

        Django's form is never shown, not even to staff: it would sign another user in by
        password alone.
        """
        return HttpResponseRedirect(reverse("admin:index", current_app=self.name))

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add the ledger pages."""
        return [
            path("ledger/", self.admin_view(self.ledger), name="ledger"),
            path("ledger/totals/", self.admin_view(self.totals), name="ledger-totals"),
            path("ledger/balance.json", self.admin_view(self.balance), name="ledger-balance"),
            *super().get_urls(),
        ]

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Show what waits for staff, the fleet and the state of Stripe."""
        return super().index(request, {**(extra_context or {}), **_overview()})

    def balance(self, request: HttpRequest) -> JsonResponse:
        """Return the ledger's totals and whether every invariant holds."""
        _require_ledger(request)
        totals = invariants.totals()
        broken = [finding.rule for finding in invariants.audit() if finding.rows]
        return JsonResponse(
            {
                "balanced": totals["debits"] == totals["credits"] and not broken,
                "debits_nano_usd": totals["debits"],
                "credits_nano_usd": totals["credits"],
                "accounts_nano_usd": {
                    name.removeprefix("balance_"): value
                    for name, value in totals.items()
                    if name.startswith("balance_")
                },
                "broken_rules": broken,
                "meter_events_accepted": MeterBatch.objects.filter(
                    delivery=Delivery.DELIVERED, attempts__gt=0
                ).count(),
                "meter_events_waiting": MeterBatch.objects.filter(
                    delivery=Delivery.PENDING
                ).count(),
            }
        )

    def ledger(self, request: HttpRequest) -> HttpResponse:
        """Show the ledger's totals and every invariant."""
        _require_ledger(request)
        totals = invariants.totals()
        context = {
            **self.each_context(request),
            "title": "Ledger",
            "debits": totals["debits"],
            "credits": totals["credits"],
            "accounts": sorted(
                (name.removeprefix("balance_"), value)
                for name, value in totals.items()
                if name.startswith("balance_")
            ),
            "findings": invariants.audit(),
        }
        return TemplateResponse(request, "console/ledger.html", context)

    def totals(self, request: HttpRequest) -> HttpResponse:
        """Show usage on credit from the ledger to the bank, with what explains each gap."""
        _require_ledger(request)
        context = {
            **self.each_context(request),
            "title": "From the ledger to the bank",
            "totals": six_totals(),
            "waiting": invoices_waiting()[:100],
        }
        return TemplateResponse(request, "console/totals.html", context)


def _require_ledger(request: HttpRequest) -> None:
    if not request.user.has_perm("billing.view_transfer"):
        raise PermissionDenied


def _overview() -> dict[str, Any]:
    gateway = gateway_from_settings()
    try:
        workers: Any = workers_alive()
    except RedisError:
        workers = []
    return {
        "submitted": Version.objects.filter(status=Status.SUBMITTED)
        .select_related("model__org")
        .order_by("created_at")[:20],
        "incidents": Incident.objects.filter(resolved_at__isnull=True)[:20],
        "workers": workers,
        "jobs_by_status": Job.objects.values("status").annotate(n=Count("pk")).order_by("status"),
        "meters_waiting": MeterBatch.objects.filter(delivery=Delivery.PENDING).count(),
        "meters_failed": MeterBatch.objects.filter(delivery=Delivery.FAILED).count(),
        "payouts_to_approve": Payout.objects.filter(
            state=PayoutState.INTENT, needs_approval=True
        ).count(),
        "events_failed": StripeEvent.objects.filter(delivery=Delivery.FAILED).count(),
        "webhooks_failed": WebhookDelivery.objects.filter(delivery=Delivery.FAILED).count(),
        "stripe": {
            "configured": gateway is not None,
            "stand_in": bool(settings.STRIPE_API_BASE),
        },
    }


console = admin.site
