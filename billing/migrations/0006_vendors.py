"""What statements and payouts keep beside their sums; closed statements never change."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from marketplace.core.immutable import protect


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("billing", "0005_invoices_issue"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="payout",
            name="approved_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="payout",
            name="approved_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="payout",
            name="key_attempt",
            field=models.PositiveSmallIntegerField(
                default=0,
                help_text="Part of the idempotency key: raised only when Stripe has decided.",
            ),
        ),
        migrations.AddField(
            model_name="payout",
            name="mailed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="payout",
            name="needs_approval",
            field=models.BooleanField(default=False, help_text="Staff must release it first."),
        ),
        migrations.AddField(
            model_name="payoutaccount",
            name="key_attempt",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="Part of the idempotency key of the account's creation."
            ),
        ),
        migrations.AddField(
            model_name="payoutaccount",
            name="problem_mailed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="statement",
            name="mailed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="statemententry",
            name="line",
            field=models.PositiveIntegerField(
                default=0, help_text="The position of the line that it counts in."
            ),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name="payoutaccount",
            name="problem",
            field=models.CharField(
                blank=True, help_text="Why the bank refused a payout, in words.", max_length=300
            ),
        ),
        migrations.AddIndex(
            model_name="payout",
            index=models.Index(
                condition=models.Q(("delivery", "pending")),
                fields=["next_attempt_at"],
                name="payout_due",
            ),
        ),
        migrations.AddIndex(
            model_name="payoutaccount",
            index=models.Index(fields=["stripe_account_id"], name="payout_account_stripe"),
        ),
        protect("billing_statement", "status", "mailed_at"),
        protect("billing_statementline"),
    ]
