"""The one address of an organisation goes: it is an endpoint now.

The column stays for one release. Programs of the release before read it in every request, and go
on while this one is rolled out; a default lets rows be written that know nothing of it.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_account_addresses_become_endpoints"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField(model_name="organisation", name="webhook_url"),
            ],
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE accounts_organisation ALTER COLUMN webhook_url SET DEFAULT ''",
                    "ALTER TABLE accounts_organisation ALTER COLUMN webhook_url DROP DEFAULT",
                ),
            ],
        ),
    ]
