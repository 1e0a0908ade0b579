"""App configurations: Django's admin with our site as the default, and what we add to it."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class AdminSiteConfig(AdminConfig):
    """Django's own admin app, serving the staff console."""

    default_site = "marketplace.console.site.ConsoleSite"


class ConsoleConfig(AppConfig):
    """Our pages and commands; an app of its own, because AdminConfig stands for Django's."""

    name = "marketplace.console"

    def ready(self) -> None:
        """Watch who acts as whom."""
        from marketplace.console import acting

        acting.watch()
