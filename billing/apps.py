"""App configuration."""

from importlib import import_module

from django.apps import AppConfig

_HANDLERS = (
    "billing.topups",
    "billing.recharge",
    "billing.returns",
    "billing.disputes",
    "billing.connect",
    "billing.payouts",
    "billing.invoicing.heard",
)
"""Modules that register handlers of Stripe's events (`billing.stripe.inbox.handles`)."""


class BillingConfig(AppConfig):
    """Who owes what to whom."""

    name = "billing"
    label = "billing"

    def ready(self) -> None:
        """Let every area register what it does with Stripe's events."""
        for module in _HANDLERS:
            import_module(module)
