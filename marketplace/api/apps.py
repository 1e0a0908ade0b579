"""App configuration."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """The HTTP edge for programs."""

    name = "marketplace.api"
    label = "api"

    def ready(self) -> None:
        """Register the description of authentication, and how doors tell of a job's end."""
        from marketplace.api import schema  # noqa: F401  (registers on import)
        from marketplace.api.fal import hooks as fal  # noqa: F401  (registers on import)
        from marketplace.api.replicate import hooks  # noqa: F401  (registers on import)
