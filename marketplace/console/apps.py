"""App configuration: Django's admin, with our site as the default."""

from django.contrib.admin.apps import AdminConfig


class ConsoleConfig(AdminConfig):
    """The staff console."""

    default_site = "marketplace.console.site.ConsoleSite"
