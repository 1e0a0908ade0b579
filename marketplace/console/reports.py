"""Moderation: anybody reports a model or an output, staff decide once, the vendor is told."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from marketplace.accounts.models import User
from marketplace.accounts.services import organisation_suspend
from marketplace.catalog.models import Model, Status, Version
from marketplace.catalog.services import version_decide
from marketplace.console.access import NOBODY, acting_staff, needs, record
from marketplace.console.mails import tell_vendor
from marketplace.console.models import Report, ReportReason, ReportState
from marketplace.core import limits
from marketplace.core.clock import now
from marketplace.core.errors import NotFound, TooManyRequests, WrongState
from marketplace.core.ids import parse_id
from marketplace.core.keyset import links, page_of
from marketplace.jobs import retention
from marketplace.jobs.models import Job

PAGE = 50
PER_ADDRESS = (1 / 600, 5)
"""Tokens a second and burst: who reports too much waits, whatever it is about."""
PER_MODEL = (1 / 60, 30)
"""Beyond it, reports of one model are merged into the open one: many cannot silence others."""
MERGED_TEXT_MAX = 100_000
"""Characters; what does not fit is counted only."""


class ReportForm(forms.Form):
    """What is wrong with what."""

    model = forms.CharField(max_length=81, label="Model", help_text="vendor/name, from its page.")
    job = forms.UUIDField(
        required=False, label="Output", help_text="The id of the job that made it, if you know it."
    )
    reason = forms.ChoiceField(choices=ReportReason, label="What is wrong")
    text = forms.CharField(
        min_length=10, max_length=4000, widget=forms.Textarea(attrs={"rows": 5}),
        label="Tell us what you saw", help_text="And why it is wrong. Staff read it, nobody else.",
    )  # fmt: skip
    email = forms.EmailField(
        required=False, label="Your e-mail", help_text="Only if we may ask you more."
    )

    def clean_model(self) -> Model:
        """Find the model, which must be one that others can see."""
        vendor, _, name = self.cleaned_data["model"].strip().partition("/")
        name = name.partition(":")[0]
        seen = Model.objects.exclude(visibility="private").select_related("org")
        found = seen.filter(org__slug=vendor, name=name).first()
        if found is None:
            raise forms.ValidationError("There is no such model: write it as vendor/name.")
        return found


@require_http_methods(["GET", "HEAD", "POST"])
def report(request: HttpRequest) -> HttpResponse:
    """Take a report from anybody; a few from one address, so that nobody floods the queue."""
    start = {"model": request.GET.get("model", "")[:81], "job": request.GET.get("job", "")[:36]}
    if request.user.is_authenticated:
        start["email"] = request.user.email
    form, status = ReportForm(request.POST or None, initial=start), 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                _take(request, form.cleaned_data)
            except TooManyRequests as error:
                form.add_error(None, error.message)
                status = error.status
            else:
                return render(request, "public/report_thanks.html", {"title": "Thank you"})
    return render(request, "public/report.html", {"form": form}, status=status)


@transaction.atomic
def _take(request: HttpRequest, given: dict[str, Any]) -> None:
    model: Model = given["model"]
    limits.require("reports", f"report:{limits.address_of(request)}", *PER_ADDRESS)
    # The job of a stranger is no secret that this would tell: it is kept only if it fits.
    fits = Job.objects.filter(pk=given["job"], version__model=model).exists()
    user = User.objects.filter(pk=request.user.pk or NOBODY).first()
    try:
        limits.require("reports of this model", f"report:{model.pk}", *PER_MODEL)
    except TooManyRequests:
        if _merge(model, given, given["job"] if fits else None):
            return
    Report.objects.create(
        model=model,
        job_id=given["job"] if fits else None,
        reason=given["reason"],
        text=given["text"],
        email=given["email"],
        user=user,
    )
    if fits:
        retention.job_hold(given["job"])


@transaction.atomic
def _merge(model: Model, given: dict[str, Any], job_id: UUID | None) -> bool:
    """Keep one of a flood of reports in the newest open one. Returns whether there is one."""
    rows = Report.objects.select_for_update().filter(model=model, state=ReportState.OPEN)
    found = rows.order_by("-created_at").first()
    if found is None:
        return False
    about = f", output {job_id}" if job_id else ""
    sender = f", {given['email']}" if given["email"] else ""
    said = f"\n\n[{given['reason']}{about}{sender}] {given['text']}"
    found.merged += 1
    if len(found.text) + len(said) <= MERGED_TEXT_MAX:
        found.text += said
    found.save(update_fields=["merged", "text"])
    return True


@require_safe
@needs("console.view_report")
def reports(request: HttpRequest) -> HttpResponse:
    """List reports: the open ones, the oldest first; or those that were decided."""
    state = request.GET.get("state", ReportState.OPEN)
    rows = Report.objects.select_related("model__org")
    is_open, cursor = state == ReportState.OPEN, request.GET.get("before", "")
    if is_open:
        rows = rows.filter(state=ReportState.OPEN)
        shown, following = page_of(rows, cursor, by="created_at", size=PAGE, newest=False)
    else:
        rows = rows.exclude(state=ReportState.OPEN)
        shown, following = page_of(rows, cursor, by="decided_at", size=PAGE)
    context = {
        "title": "Reports",
        "reports": shown,
        "is_open": is_open,
        **links(request, following),
    }
    return render(request, "console/reports.html", context)


def _get(report_id: object) -> Report:
    rows = Report.objects.select_related("model__org", "user", "decided_by")
    found = rows.filter(pk=parse_id(report_id)).first()
    if found is None:
        raise NotFound("There is no such report.")
    return found


class VerdictForm(forms.Form):
    """What becomes of it, and what the vendor reads."""

    verdict = forms.ChoiceField(
        choices=[
            (ReportState.DISMISSED, "Dismiss: nothing is wrong"),
            (ReportState.HIDDEN, "Hide the model: suspend its listed versions"),
            (ReportState.SUSPENDED, "Suspend the organisation: all its models and calls"),
        ],
        widget=forms.RadioSelect,
        initial=ReportState.DISMISSED,
    )
    note = forms.CharField(
        required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 4}),
        label="Note to the vendor",
        help_text="Needed unless you dismiss. It does not say who reported.",
    )  # fmt: skip


@needs("console.view_report")
@require_safe
def report_page(request: HttpRequest, report_id: str) -> HttpResponse:
    """Show one report with what is known of the model and of other reports of it."""
    return _page(request, _get(report_id), VerdictForm())


def _page(
    request: HttpRequest, found: Report, form: VerdictForm, status: int = 200
) -> HttpResponse:
    others = Report.objects.filter(model=found.model).exclude(pk=found.pk).order_by("-created_at")
    context = {
        "title": str(found),
        "report": found,
        "form": form,
        "others": others[:10],
        "versions": found.model.versions.all()[:10],
        "may_decide": request.user.has_perm("console.change_report"),
    }
    return render(request, "console/report.html", context, status=status)


@require_POST
@needs("console.change_report")
def verdict(request: HttpRequest, report_id: str) -> HttpResponse:
    """Decide once; tell the vendor unless the report is dismissed."""
    found = _get(report_id)
    form = VerdictForm(request.POST)
    if form.is_valid():
        state, note = ReportState(form.cleaned_data["verdict"]), form.cleaned_data["note"].strip()
        if state == ReportState.SUSPENDED and not request.user.has_perm(
            "accounts.change_organisation"
        ):
            form.add_error("verdict", "You may not suspend organisations.")
        elif state != ReportState.DISMISSED and not note:
            form.add_error("note", "Say why: the vendor will read it.")
        else:
            report_decide(request, found, state, note)
            messages.success(request, f"The report of {found.model} is {state.label}.")
            return redirect("admin:reports")
    return _page(request, found, form, status=422)


@transaction.atomic
def report_decide(request: HttpRequest, found: Report, state: ReportState, note: str) -> None:
    """Write the verdict, do what it says, and mail the vendor. Raises WrongState if decided."""
    by = acting_staff(request)
    rows = Report.objects.filter(pk=found.pk, state=ReportState.OPEN)
    if not rows.update(state=state, note=note, decided_by=by, decided_at=now()):
        raise WrongState("Somebody has decided on this report already.")
    if found.job_id:
        # Locked, so that of two verdicts at once the later one sees the other.
        Job.objects.select_for_update().filter(pk=found.job_id).first()
        if not Report.objects.filter(job_id=found.job_id, state=ReportState.OPEN).exists():
            retention.job_release(found.job_id)
    org, model = found.model.org, found.model
    record(request, f"report.{state}", found, org=org, note=note, by=by)
    if state == ReportState.DISMISSED:
        return
    if state == ReportState.HIDDEN:
        for version in Version.objects.filter(model=model, status=Status.LISTED):
            version_decide(version=version, after=Status.SUSPENDED, by=by, note=note)
        said = f"Your model {model} is hidden after a report: nobody can call it."
    else:
        organisation_suspend(org=org)
        record(request, "organisation.suspended", org, org=org, note=note, by=by)
        said = f"{org.name} is suspended after a report: it neither calls nor sells."
    tell_vendor(org, f"a report of {model}", [said, note])
