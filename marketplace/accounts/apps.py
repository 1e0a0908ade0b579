"""App configuration."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who calls, and for which organisation."""

    name = "marketplace.accounts"
    label = "accounts"
