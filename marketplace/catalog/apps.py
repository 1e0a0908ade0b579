"""App configuration."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """What is on offer, at which price and on which terms."""

    name = "marketplace.catalog"
    label = "catalog"
