"""Versions name their licence, also where the tables' owner is no superuser."""

from django.db import migrations

from marketplace.core.immutable import allow_references


class Migration(migrations.Migration):
    dependencies = [("catalog", "0009_uploads_are_leased")]
    operations = [allow_references("catalog_licence")]
