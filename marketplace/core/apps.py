"""App configuration."""

from django.apps import AppConfig
from django.contrib.staticfiles.apps import StaticFilesConfig as DjangoStaticFilesConfig


class CoreConfig(AppConfig):
    """Helpers without a domain."""

    name = "marketplace.core"
    label = "core"


class StaticFilesConfig(DjangoStaticFilesConfig):
    """Django's, without the browsable API that we do not serve: compressing it takes long."""

    ignore_patterns = [*DjangoStaticFilesConfig.ignore_patterns, "rest_framework*"]  # noqa: RUF012 (as in Django)
