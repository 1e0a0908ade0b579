"""Projects and budgets: what each may spend in a month, what it has spent, who is told when."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.forms import Form
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from billing import alerts
from billing import selectors as billing
from billing.models import SpendCap
from billing.months import month_end, month_start
from billing.services import month_of
from marketplace.accounts import projects, selectors
from marketplace.accounts.models import Role
from marketplace.core.clock import now
from marketplace.core.errors import MarketError
from marketplace.core.money import to_usd
from marketplace.dashboard.access import MemberRequest, may, member, show_error
from marketplace.dashboard.budget_forms import AlertForm, BudgetForm, ProjectForm
from marketplace.jobs.usage import spent_by_key

_NAMES = {"monthly_budget_nano": "amount_usd", "alert_below_nano": "amount_usd"}


@dataclass(frozen=True, slots=True)
class Row:
    """A subject with its budget and what is used of it this month."""

    subject: Any
    limit_nano: int | None
    spent_nano: int
    held_nano: int
    month_nano: int
    """What all its calls cost that ended this month, whenever the budget was set."""

    @property
    def percent(self) -> int:
        """Return how much of the budget is spent, in whole per cent."""
        if not self.limit_nano:
            return 100 if self.limit_nano == 0 else 0
        return min(100, self.spent_nano * 100 // self.limit_nano)


def _row(subject: Any, used: dict[Any, SpendCap], month_nano: int) -> Row:
    spent = used.get(subject.pk)
    return Row(
        subject,
        subject.monthly_budget_nano,
        spent.spent_nano if spent else 0,
        spent.held_nano if spent else 0,
        month_nano,
    )


def _usd(nano: int | None) -> str:
    return "" if nano is None else f"{to_usd(nano).normalize():f}"


def _page(request: MemberRequest, status: int = 200, **forms: Form) -> HttpResponse:
    """Show the page; `forms` are those that were found wrong."""
    org, month = request.org, month_of(now())
    own = list(selectors.projects_of(org).prefetch_related("api_keys"))
    capped = selectors.keys_of(org).filter(
        monthly_budget_nano__isnull=False, revoked_at__isnull=True
    )
    keys = list(capped[:200])
    used = billing.budgets_spent([org.pk, *(row.pk for row in [*own, *keys])], month)
    by_key = spent_by_key(org.pk, month_start(month), month_end(month))
    below = alerts.alert_below_of(org.pk)
    context = {
        "month": month,
        "organisation": _row(org, used, sum(by_key.values())),
        "projects": [
            (
                _row(project, used, sum(by_key.get(key.pk, 0) for key in project.api_keys.all())),
                ProjectForm(
                    initial={
                        "name": project.name,
                        "amount_usd": _usd(project.monthly_budget_nano),
                    },
                    auto_id=f"id_%s_{project.pk}",
                ),
                sum(key.is_usable for key in project.api_keys.all()),
            )
            for project in own
        ],
        "keys": [_row(key, used, by_key.get(key.pk, 0)) for key in keys],
        "alerts": alerts.alerts_of(org.pk, month),
        "budget_form": BudgetForm(initial={"amount_usd": _usd(org.monthly_budget_nano)}),
        "alert_form": AlertForm(initial={"amount_usd": _usd(below)}, auto_id="id_alert_%s"),
        "project_form": ProjectForm(auto_id="id_new_%s"),
        "may_write": may(request, Role.BILLING),
        **forms,
    }
    return render(request, "dashboard/budgets.html", context, status=status)


@member(write=[Role.BILLING])
@require_http_methods(["GET", "HEAD", "POST"])
def budgets(request: MemberRequest) -> HttpResponseBase:
    """Show budgets and projects, and make a project."""
    if request.method != "POST":
        return _page(request)
    form = ProjectForm(request.POST, auto_id="id_new_%s")
    if form.is_valid():
        try:
            made = projects.project_create(
                org=request.org, name=form.cleaned_data["name"], monthly_budget_nano=form.nano()
            )
            messages.success(request, f"The project {made} is made. Give it keys next.")
            return redirect("budgets")
        except MarketError as error:
            show_error(form, error, _NAMES)
    return _page(request, 422, project_form=form)


@member(write=[Role.BILLING])
@require_POST
def organisation_budget(request: MemberRequest) -> HttpResponseBase:
    """Set the budget of the organisation."""
    form = BudgetForm(request.POST)
    if form.is_valid():
        try:
            projects.organisation_budget_set(org=request.org, monthly_budget_nano=form.nano())
            messages.success(request, "Saved.")
            return redirect("budgets")
        except MarketError as error:
            show_error(form, error, _NAMES)
    return _page(request, 422, budget_form=form)


@member(write=[Role.BILLING])
@require_POST
def balance_alert(request: MemberRequest) -> HttpResponseBase:
    """Set below which balance the organisation is told."""
    form = AlertForm(request.POST, auto_id="id_alert_%s")
    if form.is_valid():
        try:
            alerts.alert_below_set(org_id=request.org.pk, below_nano=form.nano())
            messages.success(request, "Saved.")
            return redirect("budgets")
        except MarketError as error:
            show_error(form, error, _NAMES)
    return _page(request, 422, alert_form=form)


@member(write=[Role.BILLING])
@require_POST
def project_update(request: MemberRequest, project_id: str) -> HttpResponseBase:
    """Rename a project and set its budget."""
    form = ProjectForm(request.POST)
    if not form.is_valid():
        problems = [str(problem) for found in form.errors.values() for problem in found]
        messages.error(request, f"Not saved: {' '.join(problems)}")
        return redirect("budgets")
    try:
        projects.project_update(
            org=request.org,
            project_id=project_id,
            name=form.cleaned_data["name"],
            monthly_budget_nano=form.nano(),
        )
        messages.success(request, "Saved.")
    except MarketError as error:
        if error.status == 404:
            raise
        messages.error(request, error.message)
    return redirect("budgets")


@member(write=[Role.BILLING])
@require_POST
def project_archive(request: MemberRequest, project_id: str) -> HttpResponseBase:
    """Put a project away and revoke its keys."""
    gone = projects.project_archive(org=request.org, project_id=project_id)
    messages.success(request, f"The project {gone} is archived, and its keys are revoked.")
    return redirect("budgets")
