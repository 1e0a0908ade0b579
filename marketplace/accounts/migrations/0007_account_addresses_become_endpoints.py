"""An organisation's one address for events of its account becomes an endpoint, and back."""

from typing import Any

from django.db import migrations
from django.db.models import OuterRef, Subquery

from marketplace.core.ids import derived_id

_EVENTS = ["budget.alert", "balance.low"]  # what the address was told of until now


def addresses_to_endpoints(apps: Any, schema_editor: Any) -> None:
    """Make an endpoint of each address; what was written for it belongs to it."""
    Organisation = apps.get_model("accounts", "Organisation")
    Endpoint = apps.get_model("accounts", "WebhookEndpoint")  # noqa: N806
    Event = apps.get_model("accounts", "AccountEvent")  # noqa: N806
    rows = Organisation.objects.exclude(webhook_url="").values_list("pk", "webhook_url")
    Endpoint.objects.bulk_create(
        [
            Endpoint(
                id=derived_id("webhook_endpoint", org_id), org_id=org_id, url=url, events=_EVENTS
            )
            for org_id, url in rows.iterator()
        ],
        batch_size=1000,
    )
    of = Endpoint.objects.filter(org_id=OuterRef("org_id"), url=OuterRef("url"))
    Event.objects.update(endpoint_id=Subquery(of.values("pk")[:1]))


def endpoints_to_addresses(apps: Any, schema_editor: Any) -> None:
    """Give an organisation the oldest of its endpoints that is told of its account; drop others."""
    Organisation = apps.get_model("accounts", "Organisation")
    Endpoint = apps.get_model("accounts", "WebhookEndpoint")  # noqa: N806
    found = Endpoint.objects.filter(
        org_id=OuterRef("pk"), removed_at__isnull=True, off_at__isnull=True, events__overlap=_EVENTS
    ).order_by("created_at", "pk")
    Organisation.objects.filter(
        pk__in=Endpoint.objects.filter(
            removed_at__isnull=True, off_at__isnull=True, events__overlap=_EVENTS
        ).values("org_id")
    ).update(webhook_url=Subquery(found.values("url")[:1]))
    apps.get_model("accounts", "AccountEvent").objects.update(endpoint=None)
    Endpoint.objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_webhook_endpoints"),
    ]

    operations = [
        migrations.RunPython(addresses_to_endpoints, endpoints_to_addresses),
    ]
