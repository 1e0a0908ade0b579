"""App configuration."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Who owes what to whom."""

    name = "billing"
    label = "billing"

    def ready(self) -> None:
        """Register system checks."""
        from billing import checks  # noqa: F401  (registers on import)
