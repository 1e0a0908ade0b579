"""Calls do less: fewer statements, indexes, and locks on rows that all calls share."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models


SQL = Path(__file__).parent.parent / "sql"
FUNCTIONS = (SQL / "0009_few_statements.sql").read_text()
BEFORE = (SQL / "settle.sql").read_text()
# In the order in which calls lock them, holds first: nothing waits in a circle. Calls wait no
# longer than this; a migration that does not get its locks fails, and is run again.
LOCKS = """
SET LOCAL lock_timeout = '10s';
LOCK TABLE billing_hold, billing_charge, billing_account, billing_transfer
    IN ACCESS EXCLUSIVE MODE;
"""
# Not immutable.protect(): that revokes UPDATE, which each check of a foreign key to an account
# needs, and going back makes such keys.
ACCOUNTS = """
CREATE TRIGGER billing_account_immutable BEFORE UPDATE OR DELETE ON billing_account
    FOR EACH ROW EXECUTE FUNCTION mercato_immutable('{}');
REVOKE DELETE, TRUNCATE ON billing_account FROM PUBLIC, CURRENT_USER;
"""
# Every charge goes through both: calls at once need not make them.
PLATFORM = """
INSERT INTO billing_account (org_id, kind) VALUES (NULL, 'clearing'), (NULL, 'revenue')
    ON CONFLICT ON CONSTRAINT account_of_org DO NOTHING;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_billing_scope"),
        ("billing", "0008_issued_invoices_stay"),
    ]

    operations = [
        migrations.RunSQL(LOCKS, migrations.RunSQL.noop),
        # First: transfers no longer ask whether their accounts are there.
        migrations.RunSQL(ACCOUNTS, "DROP TRIGGER billing_account_immutable ON billing_account;"),
        migrations.AlterField(
            model_name="hold",
            name="org",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="holds",
                to="accounts.organisation",
            ),
        ),
        migrations.AlterField(
            model_name="charge",
            name="invoice",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="charges",
                to="billing.invoice",
            ),
        ),
        migrations.AlterField(
            model_name="charge",
            name="org",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="charges",
                to="accounts.organisation",
            ),
        ),
        migrations.AlterField(
            model_name="charge",
            name="postpaid_batch",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="postpaid_charges",
                to="billing.meterbatch",
            ),
        ),
        migrations.AlterField(
            model_name="charge",
            name="prepaid_batch",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="prepaid_charges",
                to="billing.meterbatch",
            ),
        ),
        migrations.AlterField(
            model_name="charge",
            name="vendor",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="sales",
                to="accounts.organisation",
            ),
        ),
        migrations.AlterField(
            model_name="transfer",
            name="credit",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="credits",
                to="billing.account",
            ),
        ),
        migrations.AlterField(
            model_name="transfer",
            name="debit",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="debits",
                to="billing.account",
            ),
        ),
        migrations.AlterField(
            model_name="transfer",
            name="reverses",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="reversals",
                to="billing.transfer",
            ),
        ),
        migrations.AddIndex(
            model_name="charge",
            index=models.Index(
                condition=models.Q(("invoice__isnull", False)),
                fields=["invoice"],
                name="charge_invoiced",
            ),
        ),
        migrations.AddIndex(
            model_name="transfer",
            index=models.Index(
                condition=models.Q(("reverses__isnull", False)),
                fields=["reverses"],
                name="transfer_reverses",
            ),
        ),
        migrations.AddField(
            model_name="topup",
            name="key_attempt",
            field=models.PositiveIntegerField(
                default=0,
                help_text="Stripe replays a stored 5xx under the same key: then the next one.",
            ),
        ),
        migrations.AddField(
            model_name="topupreturn",
            name="key_attempt",
            field=models.PositiveIntegerField(
                default=0,
                help_text="As that of a top-up.",
            ),
        ),
        migrations.RunSQL(FUNCTIONS, BEFORE),
        # Last, for a table with rows of this transaction cannot be altered.
        migrations.RunSQL(PLATFORM, migrations.RunSQL.noop),
    ]
