"""App configuration."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Who owes what to whom."""

    name = "billing"
    label = "billing"
