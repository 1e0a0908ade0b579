"""The functions that move money, and the tables that only grow."""

from pathlib import Path

from django.db import migrations

from marketplace.core.immutable import protect

FUNCTIONS = Path(__file__).parent.parent / "sql" / "0002_ledger.sql"
OUTBOX = (
    "delivery", "attempts", "next_attempt_at", "first_attempt_at", "delivered_at", "last_error",
    "replayed_at_attempt",
)  # fmt: skip


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial"), ("core", "0001_immutable")]
    operations = [
        migrations.RunSQL(
            FUNCTIONS.read_text(),
            """
            DROP FUNCTION billing_settle;
            DROP FUNCTION billing_reserve;
            DROP FUNCTION billing_credit;
            DROP FUNCTION billing_post;
            DROP FUNCTION billing_account;
            """,
        ),
        protect("billing_transfer"),
        protect("billing_charge", "prepaid_batch_id", "postpaid_batch_id"),
        protect("billing_meterbatch", *OUTBOX),
    ]
