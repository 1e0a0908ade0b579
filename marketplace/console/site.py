"""The staff console's site: its door, with a second factor, its own pages and Django's tables."""

from collections.abc import Callable
from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path
from django.utils.decorators import method_decorator


class ConsoleSite(admin.AdminSite):
    """Staff with a second factor only; the front page says what needs a person."""

    site_header = "Mercato console"
    site_title = "Mercato console"
    index_title = "What needs you"
    site_url = "/"
    index_template = "console/index.html"
    enable_nav_sidebar = False

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Take a table only if its changes are audited, which those of libraries are not."""
        from marketplace.console.rows import Audited

        if issubclass(admin_class or admin.ModelAdmin, Audited):
            super().register(model_or_iterable, admin_class, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        """Let in active staff whose session was opened with a second factor."""
        from marketplace.accounts.second_factor import has_second_factor

        return super().has_permission(request) and has_second_factor(request)

    @method_decorator(secure_admin_login)
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Send visitors to the market's own sign-in, and staff to their second factor.

        Django's form is never shown, not even to staff: it would sign another user in by
        password alone.
        """
        from marketplace.console.access import ask_for_second_factor

        if self.has_permission(request):
            return HttpResponseRedirect(request.build_absolute_uri("/console/"))
        return ask_for_second_factor(request)

    def password_change(  # type: ignore[override]  # a redirect, where Django has a page
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Send staff to the market's own page."""
        return redirect("account_change_password")

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Put our pages before Django's."""
        return [
            *(path(place, self.admin_view(view), name=name) for place, view, name in _pages()),
            *super().get_urls(),
        ]

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Show what waits for a person."""
        from marketplace.console.home import overview

        context = {"title": self.index_title, **overview(request), **(extra_context or {})}
        return TemplateResponse(request, self.index_template, context)


def _pages() -> list[tuple[str, Callable[..., HttpResponse], str]]:
    """Return our pages: place, view and name. Imported late: tables register with the site."""
    from marketplace.console import (
        control,
        fleet,
        incidents,
        ledger,
        organisations,
        queues,
        reports,
        review,
        search,
        story,
    )

    return [
        ("search/", search.page, "search"),
        ("review/", review.queue, "review"),
        ("review/<uuid:version_id>/", review.version, "review-version"),
        ("review/<uuid:version_id>/decide/", review.decide, "review-decide"),
        ("reports/", reports.reports, "reports"),
        ("reports/<uuid:report_id>/", reports.report_page, "report"),
        ("reports/<uuid:report_id>/verdict/", reports.verdict, "verdict"),
        ("incidents/", incidents.incidents, "incidents"),
        ("incidents/<uuid:incident_id>/", incidents.incident, "incident"),
        ("queues/", queues.overview, "queues"),
        ("queues/<slug:name>/", queues.queue_rows, "queue"),
        ("queues/<slug:name>/replay/", queues.replay, "queue-replay"),
        ("queues/<slug:name>/rows/<str:key>/", queues.queue_row, "queue-row"),
        ("fleet/", fleet.fleet, "fleet"),
        ("fleet/<str:worker_id>/drain/", fleet.drain, "drain"),
        ("ledger/", ledger.ledger, "ledger"),
        ("ledger/balance.json", ledger.balance, "ledger-balance"),
        ("ledger/totals/", ledger.totals, "ledger-totals"),
        ("ledger/invariants/", ledger.rules, "invariants"),
        ("ledger/accounts/", ledger.accounts, "accounts"),
        ("ledger/accounts/<int:account_id>/", ledger.account, "account"),
        ("ledger/transfers/", ledger.transfers, "transfers"),
        ("story/<uuid:source_id>/", story.story, "story"),
        ("story/<uuid:source_id>/refund/", story.refund, "refund"),
        ("organisations/", organisations.organisations, "organisations"),
        ("organisations/<slug:slug>/", organisations.organisation, "organisation"),
        ("organisations/<slug:slug>/stop/", organisations.stop, "organisation-stop"),
        ("organisations/<slug:slug>/money/", organisations.money, "organisation-money"),
        ("people/<uuid:user_id>/", organisations.person, "person"),
        ("flags/", control.flags_page, "flags"),
        ("flags/<slug:name>/", control.flag_set, "flag"),
        ("audit/", control.audit, "audit"),
        ("tables/", control.tables, "tables"),
    ]


console = admin.site
