"""Hooks of django-allauth: a new user gets an organisation with a welcome credit."""

from datetime import timedelta
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from billing import services as billing
from marketplace.accounts import services as accounts
from marketplace.accounts.models import User
from marketplace.core import flags
from marketplace.core.clock import now
from marketplace.core.money import to_nano


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Founds the organisation in the transaction that creates the user."""

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
