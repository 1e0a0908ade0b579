"""Versions, licences and prices never change once written."""

from django.db import migrations

from marketplace.core.immutable import protect


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial"), ("core", "0001_immutable")]
    operations = [
        protect("catalog_version", "status", "listed_at"),
        protect("catalog_licence"),
        protect("catalog_price", "created_by_id"),
        protect("catalog_reviewdecision", "by_id"),
    ]
