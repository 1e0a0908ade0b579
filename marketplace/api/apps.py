"""App configuration."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """The HTTP edge for programs."""

    name = "marketplace.api"
    label = "api"

    def ready(self) -> None:
        """Register the description of authentication."""
        from marketplace.api import schema  # noqa: F401  (registers on import)
