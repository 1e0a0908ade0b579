"""App configuration."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """The HTTP edge for programs."""

    name = "marketplace.api"
    label = "api"
