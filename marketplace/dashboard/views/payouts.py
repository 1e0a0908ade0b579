"""A vendor's pages of money: statements, their files, and the account that is paid."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing import connect
from billing.customers import gateway_shared
from billing.models import PayoutAccount
from billing.statements import export, selectors
from billing.statements.draft import CENT_NANO
from marketplace.accounts.models import Role
from marketplace.core.download import send_bytes, send_file
from marketplace.core.errors import MarketError
from marketplace.core.impersonation import is_acting
from marketplace.dashboard.access import MemberRequest, heavy, may, member, show_error
from marketplace.dashboard.payout_forms import MinimumForm, PayoutCountryForm


@member()
@require_safe
def statement(request: MemberRequest, statement_id: str) -> HttpResponse:
    """Show one statement: sums, lines, what is paid, and why not all is."""
    found = selectors.statement_get(org=request.org, statement_id=statement_id)
    return render(request, "vendor/statement.html", export.statement_context(found))


@member()
@require_safe
@heavy
def statement_csv(request: MemberRequest, statement_id: str) -> HttpResponseBase:
    """Send every transfer of a statement."""
    found = selectors.statement_get(org=request.org, statement_id=statement_id)
    return send_file(export.statement_csv(found), f"{found.number}.csv", "text/csv")


@member()
@require_safe
@heavy
def statement_pdf(request: MemberRequest, statement_id: str) -> HttpResponse:
    """Send a statement as PDF."""
    found = selectors.statement_get(org=request.org, statement_id=statement_id)
    return send_bytes(export.statement_pdf(found), f"{found.number}.pdf", "application/pdf")


@member(write=[Role.BILLING])
@require_http_methods(["GET", "HEAD", "POST"])
def account(request: MemberRequest) -> HttpResponseBase:
    """Show where the vendor is paid and what Stripe still asks for; change the minimum."""
    if request.method == "GET" and "again" in request.GET:
        messages.info(request, "Stripe's page had expired. Open it again.")
        return redirect("vendor-payouts")
    found = selectors.payout_account_of(request.org)
    if request.method == "GET" and "from" in request.GET:
        # A GET that writes what Stripe answers: only for who may, and not for staff who look on.
        writes = may(request, Role.BILLING) and not is_acting(request)
        return _returned(request) if writes else redirect("vendor-payouts")
    form, status = MinimumForm(initial={"minimum": f"{found.minimum_cents / 100:.2f}"}), 200
    if request.method == "POST":
        form, status = MinimumForm(request.POST), 422
        if form.is_valid():
            try:
                connect.minimum_set(org=request.org, cents=form.cents())
                messages.success(request, "Saved. It counts from the next statement on.")
                return redirect("vendor-payouts")
            except MarketError as error:
                show_error(form, error)
    return render(request, "vendor/payouts.html", _context(request, found, form), status=status)


def _context(request: MemberRequest, found: PayoutAccount, form: MinimumForm) -> dict[str, Any]:
    return {
        "account": found,
        "wanted": connect.requirements_words(found),
        "minimum_nano": found.minimum_cents * CENT_NANO,
        "form": form,
        "country_form": PayoutCountryForm(initial={"country": request.org.country}),
        "may_write": may(request, Role.BILLING),
        "can_connect": gateway_shared() is not None,
    }


@heavy
def _returned(request: MemberRequest) -> HttpResponseBase:
    """Ask Stripe what became of its page: coming back from it does not say so."""
    try:
        found = connect.account_refresh(org_id=request.org.pk)
    except MarketError as error:
        messages.error(request, error.message)
        return redirect("vendor-payouts")
    if found is not None and found.enabled:
        messages.success(request, "Your account can be paid.")
    else:
        messages.info(request, "Stripe still asks for something: see below.")
    return redirect("vendor-payouts")


@member(write=[Role.BILLING])
@require_POST
@heavy
def connect_begin(request: MemberRequest) -> HttpResponseBase:
    """Open the vendor's account at Stripe, or go on with it, on Stripe's page."""
    page = request.build_absolute_uri(reverse("vendor-payouts"))
    try:
        url = connect.onboarding_begin(
            org=request.org, country=request.POST.get("country", ""), page_url=page
        )
    except MarketError as error:
        for problem in [*error.fields.values()] or [[error.message]]:
            messages.error(request, " ".join([error.message, *problem]))
        return redirect("vendor-payouts")
    return redirect(url)
