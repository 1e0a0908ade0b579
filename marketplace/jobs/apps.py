"""App configuration."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Calls of models and their files."""

    name = "marketplace.jobs"
    label = "jobs"

    def ready(self) -> None:
        """Register the gauges that are read at scrape time."""
        from marketplace.jobs import gauges  # noqa: F401  (registers on import)
