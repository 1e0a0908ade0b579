from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # indexes of big tables are made while calls go on

    dependencies = [
        ("accounts", "0008_no_single_address"),
        ("jobs", "0009_webhook_endpoints"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="webhookdelivery",
            index=models.Index(
                condition=models.Q(("delivery", "failed"), ("endpoint__isnull", False)),
                fields=["endpoint", "created_at", "id"],
                name="webhook_endpoint_failed",
            ),
        ),
        AddIndexConcurrently(
            model_name="webhookdelivery",
            index=models.Index(
                condition=models.Q(("delivery", "failed")),
                fields=["org", "-created_at", "-id"],
                name="webhook_org_failed",
            ),
        ),
    ]
