"""The control plane: decides who may call what, at which price, and who is owed what."""

from marketplace.celery import app as celery_app

__all__ = ["celery_app"]
