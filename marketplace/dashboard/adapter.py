"""Hooks of django-allauth: a new user gets an organisation with a welcome credit, and a model."""

from datetime import timedelta
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse

from billing import services as billing
from billing.selectors import balance_of
from marketplace.accounts import services as accounts
from marketplace.accounts.models import User
from marketplace.catalog.gallery import Wish, gallery
from marketplace.catalog.models import Task
from marketplace.core.clock import now
from marketplace.core.money import format_usd, to_nano

_NEXT = "welcome_next"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Founds the organisation in the transaction that creates the user, and shows the way."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """Save the user, found their organisation, grant the welcome credit."""
        with transaction.atomic():
            user = super().save_user(request, user, form, commit=commit)
            if commit:
                org = accounts.user_signed_up(user=user)
                amount = to_nano(settings.WELCOME_CREDIT_USD)
                days = settings.WELCOME_CREDIT_DAYS
                if amount > 0:
                    billing.credit_grant(
                        org_id=org.pk,
                        amount_nano=amount,
                        source=f"welcome:{org.pk}",
                        expires_at=now() + timedelta(days=days) if days else None,
                        note="Welcome credit",
                    )
        if self.is_safe_url(where := request.POST.get("next")):
            request.session[_NEXT] = where
        return user

    def get_email_verification_redirect_url(self, email_address: EmailAddress) -> str:
        """Lead a new user to where they came from, else to a model that they can try at once."""
        request = self.request
        org = email_address.user.organisations.first() if request.user.is_authenticated else None
        if org is None or org.jobs.exists():
            where: str = super().get_email_verification_redirect_url(email_address)
            return where
        free = balance_of(org.pk).available_nano
        if free > 0:
            text = (
                f"Welcome. You have {format_usd(free)} of free credit: describe a picture and run."
            )
            messages.success(request, text)
        return str(request.session.pop(_NEXT, None) or _first_model())


def _first_model() -> str:
    """Return where the first picture is made: the most used model of pictures, if there is one."""
    for model in gallery(Wish(task=Task.TEXT_TO_IMAGE, use="commercial"))[:1]:
        return reverse("model", args=[model.org.slug, model.name]) + "#try"
    return settings.LOGIN_REDIRECT_URL
