"""The review queue: one submitted version at a time, with what a decision needs, then the next."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from marketplace.accounts.models import Organisation
from marketplace.catalog import chains
from marketplace.catalog.listing_models import TestRun
from marketplace.catalog.models import Status, Version
from marketplace.catalog.samples import samples_of
from marketplace.catalog.selectors import negotiated, parents_of, price_current
from marketplace.catalog.services import version_decide
from marketplace.console.access import acting_staff, needs, record
from marketplace.console.mails import tell_vendor
from marketplace.core.errors import MarketError, NotFound
from marketplace.core.ids import parse_id
from marketplace.core.keyset import links, page_of
from marketplace.jobs.models import File, Purpose
from marketplace.jobs.selectors import file_url

PAGE = 50
RUNS = 6
URL_TTL_S = 600
REASONS = {
    "licence": "The licence of what it was made from does not allow this: name your right to it.",
    "outputs": "The test outputs do not show what the page promises.",
    "price": "The price is below what the version costs to run: see the measured cost.",
    "weights": "The weights could not be checked: the address or the digest is wrong.",
    "content": "It makes what the market does not carry: people against their will, or children.",
    "page": "The page does not say what the model does or what its inputs mean.",
}
"""Reasons that staff choose from; the vendor reads the text, which staff may go on writing."""
DECISIONS = {
    Status.LISTED: "listed: callers can run it",
    Status.DRAFT: "sent back to its vendor",
    Status.SUSPENDED: "suspended: nobody can call it",
}


class DecisionForm(forms.Form):
    """What becomes of the version, and what its vendor reads."""

    after = forms.ChoiceField(choices=list(DECISIONS.items()))
    reason = forms.ChoiceField(
        choices=[("", "In your own words"), *REASONS.items()], required=False, label="Reason"
    )
    note = forms.CharField(
        required=False, max_length=4000, label="Note to the vendor",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="Needed unless you approve. It follows the reason, and is sent by e-mail.",
    )  # fmt: skip

    @property
    def words(self) -> str:
        """Return what the vendor reads: the reason, then the note."""
        reason = REASONS.get(self.cleaned_data["reason"], "")
        return f"{reason}\n\n{self.cleaned_data['note']}".strip()


def _waiting() -> Any:
    rows = Version.objects.filter(status=Status.SUBMITTED).select_related("model__org", "licence")
    return rows.order_by("created_at", "pk")


@require_safe
@needs("catalog.view_version")
def queue(request: HttpRequest) -> HttpResponse:
    """List what waits, the longest first."""
    cursor = request.GET.get("before", "")
    rows, following = page_of(_waiting(), cursor, by="created_at", size=PAGE, newest=False)
    context = {"title": "Review", "versions": rows, **links(request, following)}
    return render(request, "console/review.html", context)


def _get(version_id: object) -> Version:
    rows = Version.objects.select_related("model__org", "licence", "base__model__org")
    found = rows.filter(pk=parse_id(version_id)).first()
    if found is None:
        raise NotFound("There is no such version.")
    return found


def _outputs(version: Version) -> list[dict[str, Any]]:
    """Return what the vendor's test runs made, newest first, with the inputs that made it."""
    runs = list(TestRun.objects.filter(version=version)[:RUNS].values_list("job_id", flat=True))
    files = File.objects.filter(job_id__in=runs, purpose=Purpose.OUTPUT).select_related("job")
    return [
        {"file": file, "url": url, "input": file.job.input if file.job else {}}
        for file in files.order_by("-created_at", "index")
        if (url := file_url(file, URL_TTL_S))
    ]


def _shares(version: Version) -> tuple[list[dict[str, Any]], str]:
    """Return who gets which part of a charge, by name, and why that cannot be told."""
    try:
        chain = chains.chain_of(version)
    except (MarketError, ValueError) as error:
        return [], str(error)
    found = Organisation.objects.filter(pk__in=[share.org_id for share in chain.shares])
    names = {str(org.pk): org.name for org in found}
    rows = [{"who": names.get(row.org_id, row.org_id), "share": row} for row in chain.shares]
    return rows, ""


def _page(
    request: HttpRequest, version: Version, form: DecisionForm, status: int = 200
) -> HttpResponse:
    after = _waiting().filter(created_at__gte=version.created_at).exclude(pk=version.pk).first()
    shares, problem = _shares(version)
    context = {
        "title": str(version),
        "version": version,
        "model": version.model,
        "licence": version.licence,
        "price": price_current(version),
        "negotiated": negotiated(version),
        "parents": parents_of(version),
        "shares": shares,
        "share_problem": problem,
        "platform_bps": 10_000 - sum(row["share"].bps for row in shares),
        "decisions": version.decisions.select_related("by"),
        "others": version.model.versions.exclude(pk=version.pk)[:10],
        "form": form,
        "next": after,
        "samples": samples_of([version]).get(version.pk, []),
        "outputs": _outputs(version),
        "may_decide": request.user.has_perm("catalog.change_version"),
    }
    return render(request, "console/review_version.html", context, status=status)


@require_safe
@needs("catalog.view_version")
def version(request: HttpRequest, version_id: str) -> HttpResponse:
    """Show everything that a decision on one version needs."""
    return _page(request, _get(version_id), DecisionForm())


@require_POST
@needs("catalog.change_version")
def decide(request: HttpRequest, version_id: str) -> HttpResponse:
    """Decide, tell the vendor by mail, write it down, and go on to the next that waits."""
    found = _get(version_id)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        return _page(request, found, form, status=422)
    after, by = Status(form.cleaned_data["after"]), acting_staff(request)
    try:
        with transaction.atomic():
            version_decide(version=found, after=after, by=by, note=form.words)
            record(request, f"version.{after}", found, org=found.model.org, note=form.words)
            tell_vendor(
                found.model.org,
                f"{found} was {DECISIONS[after].partition(':')[0]}",
                [f"Your version {found} was {DECISIONS[after]}.", form.words],
            )
    except MarketError as error:
        for name, problems in (error.fields or {"": [error.message]}).items():
            form.add_error(name if name in form.fields else None, list(problems))
        return _page(request, found, form, status=error.status)
    messages.success(request, f"{found} was {DECISIONS[after]}.")
    following = _waiting().first()
    if following is not None:
        return redirect("admin:review-version", following.pk)
    return redirect("admin:review")
