"""The one address that an organisation had becomes an endpoint, and back, with its events."""

from importlib import import_module

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from marketplace.accounts.webhook_models import AccountEvent, WebhookEndpoint

BEFORE = [("accounts", "0006_webhook_endpoints"), ("jobs", "0008_nsfw")]
moving = import_module("marketplace.accounts.migrations.0007_account_addresses_become_endpoints")


@pytest.fixture
def one_address(cast):
    """The tables as programs of the release before see them: the column is still there."""
    return MigrationExecutor(connection).loader.project_state(BEFORE).apps


def test_the_release_before_goes_on_meanwhile(cast, one_address):
    old = one_address.get_model("accounts", "Organisation")
    assert old.objects.get(pk=cast.developer.pk).webhook_url == "", "a row of this release"


def test_there_and_back(cast, one_address):
    url = "https://example.org/hook"
    old = one_address.get_model("accounts", "Organisation")
    old.objects.filter(pk=cast.developer.pk).update(webhook_url=url)
    event = AccountEvent.objects.create(
        id=cast.developer.pk, org=cast.developer, event="balance.low", url=url, payload={}
    )
    moving.addresses_to_endpoints(one_address, None)
    row = WebhookEndpoint.objects.get()
    assert (row.org_id, row.url, row.is_on) == (cast.developer.pk, url, True)
    assert row.events == ["budget.alert", "balance.low"], "of jobs it was never told"
    event.refresh_from_db()
    assert event.endpoint_id == row.pk
    old.objects.update(webhook_url="")
    moving.endpoints_to_addresses(one_address, None)
    assert not WebhookEndpoint.objects.exists()
    assert old.objects.get(pk=cast.developer.pk).webhook_url == url
    assert old.objects.get(pk=cast.stranger.pk).webhook_url == ""
    event.refresh_from_db()
    assert event.endpoint_id is None
