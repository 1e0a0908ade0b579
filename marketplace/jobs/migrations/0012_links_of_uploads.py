from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # indexes of big tables are made while calls go on

    dependencies = [
        ("jobs", "0011_purge_by_organisation"),
    ]

    operations = [
        migrations.AddField(
            model_name="file",
            name="link_until",
            field=models.DateTimeField(
                blank=True,
                help_text="Until then somebody has a link that stores it, whether it was deleted or not.",
                null=True,
            ),
        ),
        AddIndexConcurrently(
            model_name="file",
            index=models.Index(
                condition=models.Q(("deleted_at__isnull", False), ("link_until__isnull", False)),
                fields=["link_until"],
                name="file_deleted_links",
            ),
        ),
    ]
