"""App configuration: registers the deployment checks."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Core helpers and deployment checks."""

    name = "marketplace.core"
    label = "core"

    def ready(self) -> None:
        """Register system checks."""
        from marketplace.core import checks  # noqa: F401  (registers on import)
