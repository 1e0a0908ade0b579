from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # indexes of big tables are made while calls go on

    dependencies = [
        ("accounts", "0008_no_single_address"),
        ("jobs", "0010_failed_deliveries"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="job",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False), ("purged_at__isnull", True)),
                fields=["org", "finished_at"],
                name="job_purge_by_org",
            ),
        ),
        RemoveIndexConcurrently(model_name="job", name="job_purge_due"),
    ]
