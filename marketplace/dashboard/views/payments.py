"""Pages on which money comes in: top-ups, the saved card, automatic recharge, billing details."""

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing import recharge, topups
from billing.customers import PaymentsAway, gateway_shared
from billing.models import BillingProfile, Dispute, TopUp, TopUpState
from billing.profiles import FIELDS, profile_of, profile_save
from billing.stripe.gateway import GatewayError
from marketplace.accounts.models import Role
from marketplace.core import limits
from marketplace.core.errors import MarketError, TooManyRequests
from marketplace.core.impersonation import is_acting
from marketplace.dashboard.access import MemberRequest, heavy, may, member, show_error
from marketplace.dashboard.payment_forms import PRESETS, ProfileForm, RechargeForm, TopUpForm

_CENTS = 100
_NANO = 10**9


def money_context(request: MemberRequest, form: TopUpForm | None = None) -> dict[str, Any]:
    """Return what the billing page shows of money that comes in."""
    profile = profile_of(request.org)
    return {
        "may_pay": may(request, Role.BILLING),
        "top_up_form": form or TopUpForm(),
        "presets": PRESETS,
        "top_ups": TopUp.objects.for_org(request.org)
        .select_related("by")
        .order_by("-created_at")[:20],
        "disputes": Dispute.objects.for_org(request.org).order_by("-created_at")[:20],
        "profile": profile,
        "recharge_stopped": recharge.why_not_now(profile)
        if profile.recharge_below_nano is not None
        else "",
    }


@member(write=[Role.BILLING])
@require_POST
@heavy
def top_up_create(request: MemberRequest) -> HttpResponseBase:
    """Send the member to Stripe's page, or back to the form with what is wrong."""
    form = TopUpForm(request.POST)
    if form.is_valid():
        try:
            _, url = topups.top_up_begin(
                org=request.org,
                user=request.user,
                cents=form.cents(),
                key=form.key_of_all(),
                save_card=form.cleaned_data["save_card"],
            )
            return redirect(url)
        except PaymentsAway as error:
            messages.error(request, error.message)
            return redirect("billing")
        except MarketError as error:
            show_error(form, error)
    context = {"form": form, "presets": PRESETS}
    return render(request, "dashboard/top_up_form.html", context, status=422)


@member()
@require_safe
def top_up(request: MemberRequest, top_up_id: str) -> HttpResponse:
    """Say what became of a top-up; htmx asks again while it is not known. Paid: its receipt."""
    found = topups.top_up_get(org=request.org, top_up_id=top_up_id)
    gateway = gateway_shared()
    if found.state == TopUpState.PENDING and gateway is not None and not is_acting(request):
        try:
            limits.heavy(request.org.pk)
            topups.top_up_refresh(gateway, found)
        except (GatewayError, TooManyRequests):
            pass  # the webhook or the poll will tell
    context = {
        "top_up": found,
        "left": "left" in request.GET,
        "profile": profile_of(request.org),
        "credit_nano": found.cents * topups.NANO_PER_CENT,
        "total_nano": (found.cents + found.tax_cents) * topups.NANO_PER_CENT,
    }
    live = request.htmx  # type: ignore[attr-defined]
    return render(
        request, "dashboard/top_up_live.html" if live else "dashboard/top_up.html", context
    )


@member(write=[Role.BILLING])
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: MemberRequest) -> HttpResponseBase:
    """Change what invoices say."""
    found = profile_of(request.org)
    form, status = ProfileForm(initial={name: getattr(found, name) for name in FIELDS}), 200
    if request.method == "POST":
        form, status = ProfileForm(request.POST), 422
        if form.is_valid():
            try:
                profile_save(org=request.org, **form.cleaned_data)
                messages.success(request, "Saved.")
                return redirect("billing-profile")
            except MarketError as error:
                show_error(form, error)
    context = {"form": form, "profile": found, "may_write": may(request, Role.BILLING)}
    context["automatic_tax"] = settings.STRIPE_AUTOMATIC_TAX
    return render(request, "dashboard/billing_profile.html", context, status=status)


def _recharge_form(found: BillingProfile) -> RechargeForm:
    below = found.recharge_below_nano
    return RechargeForm(
        initial={
            "enabled": below is not None,
            "below": None if below is None else Decimal(below) / _NANO,
            "amount": Decimal(found.recharge_cents) / _CENTS if found.recharge_cents else None,
            "monthly": Decimal(found.recharge_monthly_cents) / _CENTS
            if found.recharge_monthly_cents
            else None,
        }
    )


@member(write=[Role.BILLING])
@require_http_methods(["GET", "HEAD", "POST"])
@heavy
def recharge_page(request: MemberRequest) -> HttpResponseBase:
    """Set up automatic recharge, and show how it goes."""
    found = profile_of(request.org)
    form, status = _recharge_form(found), 200
    if request.method == "POST":
        form, status = RechargeForm(request.POST), 422
        if form.is_valid():
            try:
                recharge.recharge_set(org=request.org, **form.arguments())
                messages.success(request, "Saved.")
                return redirect("recharge")
            except MarketError as error:
                show_error(form, error)
    card, card_unknown = None, False
    gateway = gateway_shared()
    if gateway is not None and request.method != "HEAD":
        try:
            writes = may(request, Role.BILLING) and not is_acting(request)
            if writes and (setup_id := request.GET.get("saved")):
                recharge.card_saved(gateway, request.org.pk, setup_id)
                found = profile_of(request.org)
            card = recharge.card_of(gateway, found)
        except GatewayError:
            card_unknown = bool(found.payment_method_id)
    context = {
        "form": form,
        "card": card,
        "card_unknown": card_unknown,
        "profile": found,
        "why_not": recharge.why_not_now(found),
        "charged_nano": recharge.charged_this_month(request.org.pk) * topups.NANO_PER_CENT,
        "last": TopUp.objects.for_org(request.org).filter(automatic=True)[:10],
        "may_write": may(request, Role.BILLING),
        "new_key": TopUpForm().initial_key(),
    }
    return render(request, "dashboard/recharge.html", context, status=status)


@member(write=[Role.BILLING])
@require_POST
@heavy
def card(request: MemberRequest) -> HttpResponseBase:
    """Send the member to Stripe's page for cards, or forget the card that is used."""
    if "forget" in request.POST:
        try:
            recharge.card_forget(org=request.org)
            messages.success(request, "The card is not charged any more. Stripe has forgotten it.")
        except MarketError as error:
            messages.error(request, error.message)
        return redirect("recharge")
    try:
        return redirect(recharge.card_begin(org=request.org, key=request.POST.get("key", "")))
    except MarketError as error:
        messages.error(request, error.message)
        return redirect("recharge")
