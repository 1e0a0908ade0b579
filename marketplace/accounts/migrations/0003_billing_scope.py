"""Names the scope of keys that may pay; the column stays as it is."""

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

SCOPES = [
    ("run", "Run models"),
    ("read", "Read jobs, usage and models"),
    ("admin", "Manage keys and projects"),
    ("billing", "Pay, and change billing details"),
]


class Migration(migrations.Migration):
    """One more choice."""

    dependencies = [("accounts", "0002_projects")]

    operations = [
        migrations.AlterField(
            model_name="apikey",
            name="scopes",
            field=ArrayField(base_field=models.CharField(choices=SCOPES, max_length=10), size=None),
        ),
    ]
