"""The populated market as a fixture of a module: made once, committed, and flushed at its end."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from marketplace.core import valkey
from tests.pages.market import Market, market_fill, market_make

PLAIN = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}


@pytest.fixture(scope="module")
def market(django_db_setup: Any, django_db_blocker: Any) -> Iterator[Market]:
    """A market with two rows of everything, all of them committed."""
    from django.conf import settings

    from billing.invariants import audit

    plain = override_settings(STORAGES={**settings.STORAGES, "staticfiles": PLAIN})
    with django_db_blocker.unblock(), plain:
        made = market_make()
        market_fill(made, 2)
        broken = [finding for finding in audit() if finding.rows]
        assert not broken, broken
        yield made
        valkey.client().flushdb()
        call_command("flush", verbosity=0, interactive=False, reset_sequences=False)
