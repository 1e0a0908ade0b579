"""Hooks of django-allauth: a new user gets an organisation with a welcome credit, and a model."""

from datetime import timedelta
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from billing import services as billing
from billing.selectors import balance_of
from marketplace.accounts import services as accounts
from marketplace.accounts.models import User
from marketplace.catalog.gallery import Wish, gallery
from marketplace.catalog.models import Task
from marketplace.core import flags
from marketplace.core.clock import now
from marketplace.core.money import format_usd, to_nano


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Founds the organisation in the transaction that creates the user, and shows the way."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Tell whether new people may sign up."""
        return flags.is_on(flags.SIGN_UPS)

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
        return user

    def post_login(
        self, request: HttpRequest, user: User, *, signup: bool, **given: Any
    ) -> HttpResponse:
        """Tell somebody who has just signed up what there is to spend, then go on."""
        if signup and (org := user.organisations.first()) is not None:
            free = balance_of(org.pk).available_nano
            credit = f" You have {format_usd(free)} of free credit." if free > 0 else ""
            messages.success(request, f"Welcome.{credit} Describe a picture and run.")
        answer: HttpResponse = super().post_login(request, user, signup=signup, **given)
        return answer

    def get_signup_redirect_url(self, request: HttpRequest) -> str:
        """Return where a new user goes who came from nowhere: to a model that can be tried."""
        return _first_model()


def _first_model() -> str:
    """Return where the first picture is made: the most used model of pictures, if there is one."""
    for model in gallery(Wish(task=Task.TEXT_TO_IMAGE, use="commercial"))[:1]:
        return reverse("model", args=[model.org.slug, model.name]) + "#try"
    return settings.LOGIN_REDIRECT_URL
