"""A reversal and a statement name transfers, also where the owner is no superuser."""

from django.db import migrations

from marketplace.core.immutable import allow_references


class Migration(migrations.Migration):
    dependencies = [("billing", "0011_failed_rows")]
    operations = [allow_references("billing_transfer")]
