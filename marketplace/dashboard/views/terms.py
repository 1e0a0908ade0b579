"""What an organisation agrees to and redeems: licences, promotion codes."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from marketplace.accounts.models import Role
from marketplace.catalog import acceptance, promotions
from marketplace.core.errors import MarketError
from marketplace.core.money import format_usd
from marketplace.dashboard.access import MemberRequest, member
from marketplace.dashboard.forms import PromotionForm


@member()
@require_POST
def licence_accept(request: MemberRequest, licence_id: str) -> HttpResponseBase:
    """Accept a licence for the organisation, as owner or admin, and go back to the model."""
    licence = acceptance.licence_get(licence_id)
    try:
        acceptance.licence_accept(
            org=request.org,
            licence=licence,
            text_digest=request.POST.get("text_digest", ""),
            declared_use=request.POST.get("declared_use", ""),
            user=request.user,
        )
        messages.success(request, f"{request.org.name} has accepted {licence}.")
    except MarketError as error:
        messages.error(request, error.message)
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts=None) and back.startswith("/models/")
    return redirect(back if safe else "gallery")


@member(write=[Role.BILLING])
@require_POST
def promotion_redeem(request: MemberRequest) -> HttpResponseBase:
    """Redeem a promotion code for the organisation."""
    form = PromotionForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Write the code.")
        return redirect("billing")
    try:
        code = form.cleaned_data["code"]
        found = promotions.promotion_redeem(org=request.org, code=code, user=request.user)
        messages.success(request, f"{format_usd(found.amount_nano)} of credit were added.")
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("billing")
