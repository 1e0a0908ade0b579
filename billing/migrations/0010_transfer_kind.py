"""The index of the ledger's pages by kind, made while calls go on."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("billing", "0009_few_statements"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="transfer",
            index=models.Index(fields=["kind", "occurred_at", "id"], name="transfer_kind"),
        ),
    ]
