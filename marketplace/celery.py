"""The Celery app of the control plane: settles jobs, delivers webhooks, relays to Stripe."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")

app = Celery("marketplace")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(
    [
        "marketplace.catalog",
        "marketplace.jobs",
        "marketplace.core",
        "marketplace.accounts",
        "billing",
    ]
)


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Stop Celery from replacing the logging that Django has set up."""
