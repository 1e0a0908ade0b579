"""Celery entry points of accounts."""

from celery import shared_task

from marketplace.accounts import events


@shared_task(name="accounts.send_events")
def send_events() -> None:
    """Tell organisations' servers of what happened to their accounts."""
    events.events_send()
