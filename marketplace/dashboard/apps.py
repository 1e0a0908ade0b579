"""App configuration."""

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """Pages for visitors, developers and vendors."""

    name = "marketplace.dashboard"
    label = "dashboard"
