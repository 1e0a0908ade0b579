"""Prices with tiers were graduated; what is agreed and who is owed a royalty never changes."""

from django.db import migrations

from marketplace.core.immutable import protect

SCHEME = """
ALTER TABLE catalog_price DISABLE TRIGGER catalog_price_immutable;
UPDATE catalog_price SET scheme = 'graduated' WHERE tiers <> '[]'::jsonb;
ALTER TABLE catalog_price ENABLE TRIGGER catalog_price_immutable;
"""


class Migration(migrations.Migration):
    dependencies = [("catalog", "0004_terms"), ("core", "0001_immutable")]
    operations = [
        migrations.RunSQL(SCHEME, migrations.RunSQL.noop),
        protect("catalog_licenceacceptance", "user_id", "api_key_id"),
        protect("catalog_versionparent"),
        protect("catalog_promotionuse", "user_id"),
    ]
