"""App configuration."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Helpers without a domain."""

    name = "marketplace.core"
    label = "core"
