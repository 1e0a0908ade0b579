from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0012_links_of_uploads"),
    ]

    operations = [
        migrations.AddField(
            model_name="file",
            name="keep_s",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Seconds that an upload is kept, if fewer than the organisation's.",
                null=True,
            ),
        ),
    ]
