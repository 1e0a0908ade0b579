"""The trigger function behind append-only tables."""

from django.db import migrations

from marketplace.core.immutable import FUNCTION


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.RunSQL(FUNCTION, "DROP FUNCTION mercato_immutable();")]
