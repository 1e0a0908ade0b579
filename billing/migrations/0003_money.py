"""Money in full: grants, shards, refunds, invoices, statements, payouts, payments."""

from pathlib import Path

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.expressions
import marketplace.core.clock
import marketplace.core.ids
from django.conf import settings
from django.db import migrations, models

from marketplace.core.immutable import protect


SQL = Path(__file__).parent.parent / "sql"
FUNCTIONS = "".join((SQL / name).read_text() for name in ("wallet.sql", "settle.sql"))
DATA = """
INSERT INTO billing_walletshard (org_id, shard, prepaid_nano, owed_nano, held_nano, limit_nano)
    SELECT org_id, 0, prepaid_nano, owed_nano, held_nano, credit_limit_nano FROM billing_wallet;
UPDATE billing_hold SET wallet_nano = amount_nano,
    cap_subjects = CASE WHEN cap_subject_id IS NULL THEN '{}' ELSE ARRAY[cap_subject_id] END;
SET CONSTRAINTS ALL IMMEDIATE;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("billing", "0002_ledger"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BillingProfile",
            fields=[
                (
                    "org",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="billing_profile",
                        serialize=False,
                        to="accounts.organisation",
                    ),
                ),
                ("legal_name", models.CharField(blank=True, max_length=200)),
                (
                    "email",
                    models.EmailField(
                        blank=True, help_text="Invoices and alerts go here.", max_length=254
                    ),
                ),
                ("address", models.TextField(blank=True, max_length=500)),
                ("country", models.CharField(blank=True, help_text="ISO 3166 code.", max_length=2)),
                (
                    "tax_id_type",
                    models.CharField(blank=True, help_text="As Stripe names it.", max_length=20),
                ),
                ("tax_id", models.CharField(blank=True, max_length=40)),
                (
                    "alert_below_nano",
                    models.BigIntegerField(
                        blank=True, help_text="Tell when less than this is available.", null=True
                    ),
                ),
                ("payment_method_id", models.CharField(blank=True, max_length=64)),
                ("recharge_below_nano", models.BigIntegerField(blank=True, null=True)),
                ("recharge_cents", models.PositiveIntegerField(default=0)),
                (
                    "recharge_monthly_cents",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="Most that is charged automatically in a UTC month; 0 is no limit.",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="CreditNote",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("number", models.CharField(max_length=28, unique=True)),
                ("amount_nano", models.BigIntegerField()),
                ("cents", models.BigIntegerField()),
                (
                    "to_balance",
                    models.BooleanField(help_text="Paid back as prepaid credit, not off the debt."),
                ),
                ("stripe_credit_note_id", models.CharField(blank=True, max_length=64)),
                (
                    "created_at",
                    models.DateTimeField(default=marketplace.core.clock.now, editable=False),
                ),
            ],
            options={
                "ordering": ["-created_at"],
            },
        ),
        migrations.CreateModel(
            name="Dispute",
            fields=[
                (
                    "id",
                    models.CharField(
                        help_text="Stripe's id.", max_length=64, primary_key=True, serialize=False
                    ),
                ),
                ("payment_intent_id", models.CharField(max_length=64)),
                ("cents", models.PositiveIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "Open"), ("won", "Won"), ("lost", "Lost")],
                        default="open",
                        max_length=4,
                    ),
                ),
                (
                    "wallet_nano",
                    models.BigIntegerField(default=0, help_text="Taken from the prepaid balance."),
                ),
                (
                    "owed_nano",
                    models.BigIntegerField(
                        default=0, help_text="Made a debt: it was used already."
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(default=marketplace.core.clock.now, editable=False),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Draw",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("position", models.PositiveSmallIntegerField()),
                ("held_nano", models.BigIntegerField()),
                ("captured_nano", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Grant",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=marketplace.core.ids.new_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("amount_nano", models.BigIntegerField()),
                ("remaining_nano", models.BigIntegerField()),
                ("held_nano", models.BigIntegerField(default=0)),
                (
                    "priority",
                    models.PositiveSmallIntegerField(
                        default=50, help_text="0 is used first, 100 last."
                    ),
                ),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("model_id", models.UUIDField(blank=True, null=True)),
                ("vendor_id", models.UUIDField(blank=True, null=True)),
                ("note", models.CharField(blank=True, max_length=200)),
                ("expiries", models.PositiveSmallIntegerField(default=0, editable=False)),
                (
                    "created_at",
                    models.DateTimeField(default=marketplace.core.clock.now, editable=False),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Invoice",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("month", models.DateField()),
                ("number", models.CharField(blank=True, max_length=24, null=True, unique=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("draft", "Draft"),
                            ("open", "Open"),
                            ("paid", "Paid"),
                            ("void", "Void"),
                            ("uncollectible", "Uncollectible"),
                        ],
                        default="draft",
                        max_length=14,
                    ),
                ),
                ("granted_nano", models.BigIntegerField(default=0)),
                ("prepaid_nano", models.BigIntegerField(default=0)),
                ("postpaid_nano", models.BigIntegerField(default=0)),
                ("due_cents", models.BigIntegerField(default=0)),
                ("paid_cents", models.BigIntegerField(default=0)),
                (
                    "bill_to",
                    models.JSONField(
                        default=dict, help_text="Name, address, tax id when it was issued."
                    ),
                ),
                ("stripe_invoice_id", models.CharField(blank=True, max_length=64)),
                (
                    "created_at",
                    models.DateTimeField(default=marketplace.core.clock.now, editable=False),
                ),
                ("issued_at", models.DateTimeField(blank=True, null=True)),
                ("paid_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-month"],
            },
        ),
        migrations.CreateModel(
            name="InvoiceLine",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("position", models.PositiveIntegerField()),
                ("model_ref", models.CharField(max_length=81)),
                ("version_id", models.UUIDField()),
                ("price_id", models.UUIDField()),
                ("unit", models.CharField(max_length=16)),
                ("month", models.DateField(help_text="When the usage occurred.")),
                ("calls", models.PositiveIntegerField()),
                ("quantity", models.DecimalField(decimal_places=6, max_digits=26)),
                (
                    "amount_nano",
                    models.BigIntegerField(help_text="All of it, whoever paid; refunds taken off."),
                ),
                ("granted_nano", models.BigIntegerField()),
                ("prepaid_nano", models.BigIntegerField()),
                ("postpaid_nano", models.BigIntegerField()),
                ("due_cents", models.BigIntegerField()),
            ],
            options={
                "ordering": ["position"],
            },
        ),
        migrations.CreateModel(
            name="Statement",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("month", models.DateField()),
                ("number", models.CharField(blank=True, max_length=24, null=True, unique=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("draft", "Draft"),
                            ("carried", "Carried"),
                            ("payable", "Payable"),
                            ("paid", "Paid"),
                        ],
                        default="draft",
                        max_length=8,
                    ),
                ),
                ("carried_in_nano", models.BigIntegerField(default=0)),
                ("earned_nano", models.BigIntegerField(default=0)),
                ("clawed_back_nano", models.BigIntegerField(default=0)),
                (
                    "pending_nano",
                    models.BigIntegerField(
                        default=0, help_text="Earned, but the customers' invoices are not paid yet."
                    ),
                ),
                ("payout_cents", models.BigIntegerField(default=0)),
                ("carried_out_nano", models.BigIntegerField(default=0)),
                ("reason", models.CharField(blank=True, max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(default=marketplace.core.clock.now, editable=False),
                ),
                ("closed_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-month"],
            },
        ),
        migrations.CreateModel(
            name="PayoutAccount",
            fields=[
                (
                    "org",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="payout_account",
                        serialize=False,
                        to="accounts.organisation",
                    ),
                ),
                ("stripe_account_id", models.CharField(blank=True, max_length=64)),
                ("country", models.CharField(blank=True, max_length=2)),
                (
                    "enabled",
                    models.BooleanField(
                        default=False, help_text="Stripe lets it receive transfers."
                    ),
                ),
                (
                    "requirements",
                    models.JSONField(default=list, help_text="What Stripe still asks for."),
                ),
                ("problem", models.CharField(blank=True, max_length=300)),
                ("minimum_cents", models.PositiveIntegerField(default=2500)),
                ("seen_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Refund",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("amount_nano", models.BigIntegerField()),
                ("granted_nano", models.BigIntegerField()),
                ("prepaid_nano", models.BigIntegerField()),
                ("postpaid_nano", models.BigIntegerField()),
                ("vendors_nano", models.BigIntegerField()),
                ("fee_nano", models.BigIntegerField()),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("staff", "Decided by staff"),
                            ("failed", "The result was unusable"),
                            ("filtered", "The output was filtered"),
                            ("partial", "Part of the output was missing"),
                            ("duplicate", "Asked for twice by mistake"),
                        ],
                        max_length=10,
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=500)),
                ("occurred_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["-occurred_at"],
            },
        ),
        migrations.CreateModel(
            name="SpendAlert",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("subject_id", models.UUIDField()),
                (
                    "subject",
                    models.CharField(help_text="What has the limit, for people.", max_length=120),
                ),
                ("month", models.DateField()),
                ("percent", models.PositiveSmallIntegerField(help_text="0: the balance is low.")),
                ("spent_nano", models.BigIntegerField()),
                ("limit_nano", models.BigIntegerField()),
                (
                    "created_at",
                    models.DateTimeField(default=marketplace.core.clock.now, editable=False),
                ),
                ("mailed_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-created_at"],
            },
        ),
        migrations.CreateModel(
            name="StatementEntry",
            fields=[
                (
                    "transfer",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="statement_entry",
                        serialize=False,
                        to="billing.transfer",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="StatementLine",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("position", models.PositiveIntegerField()),
                ("model_ref", models.CharField(max_length=81)),
                ("version_id", models.UUIDField(help_text="The version that was called.")),
                ("licence_id", models.UUIDField(null=True)),
                (
                    "royalty",
                    models.BooleanField(help_text="Earned by a model derived from the vendor's."),
                ),
                ("country", models.CharField(blank=True, help_text="The payer's.", max_length=2)),
                ("month", models.DateField(help_text="When the usage occurred.")),
                ("calls", models.PositiveIntegerField()),
                ("earned_nano", models.BigIntegerField()),
                ("clawed_back_nano", models.BigIntegerField()),
            ],
            options={
                "ordering": ["position"],
            },
        ),
        migrations.CreateModel(
            name="StripeEvent",
            fields=[
                (
                    "delivery",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField(default=marketplace.core.clock.now)),
                (
                    "replayed_at_attempt",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="Attempts are never reset: this counts those before a replay.",
                    ),
                ),
                (
                    "first_attempt_at",
                    models.DateTimeField(
                        blank=True, help_text="When it was first really sent.", null=True
                    ),
                ),
                ("delivered_at", models.DateTimeField(blank=True, null=True)),
                ("last_error", models.TextField(blank=True, default="")),
                (
                    "created_at",
                    models.DateTimeField(default=marketplace.core.clock.now, editable=False),
                ),
                ("id", models.CharField(max_length=128, primary_key=True, serialize=False)),
                ("type", models.CharField(max_length=100)),
                ("object_id", models.CharField(blank=True, max_length=128)),
                (
                    "account_id",
                    models.CharField(
                        blank=True, help_text="The connected account's.", max_length=64
                    ),
                ),
                ("thin", models.BooleanField(default=False)),
                ("payload", models.JSONField()),
            ],
        ),
        migrations.CreateModel(
            name="TopUp",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=marketplace.core.ids.new_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("cents", models.PositiveIntegerField()),
                ("automatic", models.BooleanField(default=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("paid", "Paid"),
                            ("failed", "Failed"),
                            ("expired", "Expired"),
                        ],
                        default="pending",
                        max_length=8,
                    ),
                ),
                ("checkout_id", models.CharField(blank=True, max_length=128)),
                (
                    "payment_intent_id",
                    models.CharField(blank=True, max_length=64, null=True, unique=True),
                ),
                ("returned_cents", models.PositiveIntegerField(default=0)),
                ("failure", models.CharField(blank=True, max_length=300)),
                (
                    "created_at",
                    models.DateTimeField(default=marketplace.core.clock.now, editable=False),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-created_at"],
            },
        ),
        migrations.CreateModel(
            name="WalletShard",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("shard", models.PositiveSmallIntegerField(default=0)),
                ("prepaid_nano", models.BigIntegerField(default=0)),
                ("owed_nano", models.BigIntegerField(default=0)),
                ("held_nano", models.BigIntegerField(default=0)),
                ("limit_nano", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="charge",
            name="charge_adds_up",
        ),
        migrations.RemoveConstraint(
            model_name="charge",
            name="charge_in_bounds",
        ),
        migrations.RemoveConstraint(
            model_name="hold",
            name="hold_not_negative",
        ),
        migrations.RemoveConstraint(
            model_name="meterbatch",
            name="batch_positive",
        ),
        migrations.RemoveConstraint(
            model_name="wallet",
            name="wallet_not_negative",
        ),
        migrations.RemoveIndex(
            model_name="charge",
            name="charge_unsealed_pre",
        ),
        migrations.AddField(
            model_name="charge",
            name="granted_nano",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="charge",
            name="model_ref",
            field=models.CharField(
                blank=True, help_text="vendor/name, at the time.", max_length=81
            ),
        ),
        migrations.AddField(
            model_name="charge",
            name="quantity",
            field=models.DecimalField(decimal_places=6, default=0, max_digits=20),
        ),
        migrations.AddField(
            model_name="charge",
            name="unit",
            field=models.CharField(blank=True, max_length=16),
        ),
        migrations.AddField(
            model_name="hold",
            name="cap_subjects",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.UUIDField(), blank=True, default=list, size=None
            ),
        ),
        migrations.AddField(
            model_name="hold",
            name="shard",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="hold",
            name="wallet_nano",
            field=models.BigIntegerField(default=0),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="transfer",
            name="reverses",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="reversals",
                to="billing.transfer",
            ),
        ),
        migrations.AddField(
            model_name="wallet",
            name="shard_count",
            field=models.PositiveSmallIntegerField(default=1),
        ),
        migrations.AlterField(
            model_name="account",
            name="kind",
            field=models.CharField(
                choices=[
                    ("wallet", "Wallet"),
                    ("grant", "Grant"),
                    ("receivable", "Receivable"),
                    ("payable", "Payable"),
                    ("revenue", "Revenue"),
                    ("clearing", "Clearing"),
                    ("cash", "Cash"),
                    ("promotion", "Promotion"),
                    ("rounding", "Rounding"),
                    ("processing", "Processing"),
                    ("loss", "Loss"),
                ],
                max_length=12,
            ),
        ),
        migrations.AlterField(
            model_name="meterbatch",
            name="amount_nano",
            field=models.BigIntegerField(help_text="Below zero if refunds outweigh charges."),
        ),
        migrations.AlterField(
            model_name="transfer",
            name="kind",
            field=models.CharField(
                choices=[
                    ("top_up", "Top Up"),
                    ("top_up_return", "Top Up Return"),
                    ("grant", "Grant"),
                    ("expire", "Expire"),
                    ("fund_grant", "Fund Grant"),
                    ("fund_prepaid", "Fund Prepaid"),
                    ("fund_postpaid", "Fund Postpaid"),
                    ("share", "Share"),
                    ("fee", "Fee"),
                    ("refund_grant", "Refund Grant"),
                    ("refund_prepaid", "Refund Prepaid"),
                    ("refund_postpaid", "Refund Postpaid"),
                    ("refund_share", "Refund Share"),
                    ("refund_fee", "Refund Fee"),
                    ("payment", "Payment"),
                    ("apply", "Apply"),
                    ("rounding", "Rounding"),
                    ("processing", "Processing"),
                    ("payout", "Payout"),
                    ("payout_return", "Payout Return"),
                    ("dispute", "Dispute"),
                    ("dispute_won", "Dispute Won"),
                    ("write_off", "Write Off"),
                ],
                max_length=20,
            ),
        ),
        migrations.AlterField(
            model_name="transfer",
            name="source_id",
            field=models.UUIDField(
                help_text="The job, refund, top-up, grant, invoice … behind it."
            ),
        ),
        migrations.AddConstraint(
            model_name="hold",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount_nano__gte", 0),
                    ("wallet_nano__gte", 0),
                    ("wallet_nano__lte", models.F("amount_nano")),
                ),
                name="hold_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="wallet",
            constraint=models.CheckConstraint(
                condition=models.Q(("shard_count__gte", 1), ("shard_count__lte", 64)),
                name="wallet_shard_count",
            ),
        ),
        migrations.AddConstraint(
            model_name="billingprofile",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("recharge_below_nano__isnull", True),
                    ("recharge_below_nano__gte", 0),
                    _connector="OR",
                ),
                name="billing_profile_in_bounds",
            ),
        ),
        migrations.AddField(
            model_name="creditnote",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="credit_notes",
                to="accounts.organisation",
            ),
        ),
        migrations.AddField(
            model_name="dispute",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="disputes",
                to="accounts.organisation",
            ),
        ),
        migrations.AddField(
            model_name="draw",
            name="source",
            field=models.ForeignKey(
                db_column="source_id",
                on_delete=django.db.models.deletion.PROTECT,
                related_name="draws",
                to="billing.hold",
            ),
        ),
        migrations.AddField(
            model_name="grant",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="grants",
                to="accounts.organisation",
            ),
        ),
        migrations.AddField(
            model_name="draw",
            name="grant",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="draws",
                to="billing.grant",
            ),
        ),
        migrations.AddField(
            model_name="invoice",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="invoices",
                to="accounts.organisation",
            ),
        ),
        migrations.AddField(
            model_name="creditnote",
            name="invoice",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="credit_notes",
                to="billing.invoice",
            ),
        ),
        migrations.AddField(
            model_name="charge",
            name="invoice",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="charges",
                to="billing.invoice",
            ),
        ),
        migrations.AddIndex(
            model_name="charge",
            index=models.Index(
                condition=models.Q(
                    ("prepaid_batch__isnull", True),
                    models.Q(("prepaid_nano__gt", 0), ("granted_nano__gt", 0), _connector="OR"),
                ),
                fields=["org", "occurred_at"],
                name="charge_unsealed_pre",
            ),
        ),
        migrations.AddIndex(
            model_name="charge",
            index=models.Index(
                condition=models.Q(("amount_nano__gt", 0), ("invoice__isnull", True)),
                fields=["org", "occurred_at"],
                name="charge_uninvoiced",
            ),
        ),
        migrations.AddIndex(
            model_name="charge",
            index=models.Index(fields=["invoice"], name="charge_invoice"),
        ),
        migrations.AddConstraint(
            model_name="charge",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "amount_nano",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("granted_nano"), "+", models.F("prepaid_nano")
                            ),
                            "+",
                            models.F("postpaid_nano"),
                        ),
                    ),
                    (
                        "amount_nano",
                        django.db.models.expressions.CombinedExpression(
                            models.F("vendors_nano"), "+", models.F("fee_nano")
                        ),
                    ),
                ),
                name="charge_adds_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="charge",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount_nano__gte", 0),
                    ("granted_nano__gte", 0),
                    ("postpaid_nano__gte", 0),
                    ("prepaid_nano__gte", 0),
                    ("amount_nano__lte", models.F("quote_nano")),
                    ("fee_nano__gte", 0),
                    ("vendors_nano__gte", 0),
                ),
                name="charge_in_bounds",
            ),
        ),
        migrations.AddField(
            model_name="invoiceline",
            name="invoice",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="lines",
                to="billing.invoice",
            ),
        ),
        migrations.CreateModel(
            name="Payout",
            fields=[
                (
                    "delivery",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField(default=marketplace.core.clock.now)),
                (
                    "replayed_at_attempt",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="Attempts are never reset: this counts those before a replay.",
                    ),
                ),
                (
                    "first_attempt_at",
                    models.DateTimeField(
                        blank=True, help_text="When it was first really sent.", null=True
                    ),
                ),
                ("delivered_at", models.DateTimeField(blank=True, null=True)),
                ("last_error", models.TextField(blank=True, default="")),
                (
                    "created_at",
                    models.DateTimeField(default=marketplace.core.clock.now, editable=False),
                ),
                (
                    "statement",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="payout",
                        serialize=False,
                        to="billing.statement",
                    ),
                ),
                ("cents", models.BigIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[("intent", "Intent"), ("sent", "Sent"), ("returned", "Returned")],
                        default="intent",
                        max_length=8,
                    ),
                ),
                ("stripe_transfer_id", models.CharField(blank=True, max_length=64)),
                ("reversed_cents", models.BigIntegerField(default=0)),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.AddField(
            model_name="statement",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="statements",
                to="accounts.organisation",
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="charge",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="refunds",
                to="billing.charge",
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="credit_note",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="refunds",
                to="billing.creditnote",
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="invoice",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="refunds",
                to="billing.invoice",
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="refunds",
                to="accounts.organisation",
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="postpaid_batch",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="postpaid_refunds",
                to="billing.meterbatch",
            ),
        ),
        migrations.AddField(
            model_name="refund",
            name="prepaid_batch",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="prepaid_refunds",
                to="billing.meterbatch",
            ),
        ),
        migrations.AddField(
            model_name="spendalert",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="spend_alerts",
                to="accounts.organisation",
            ),
        ),
        migrations.AddField(
            model_name="statemententry",
            name="statement",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="entries",
                to="billing.statement",
            ),
        ),
        migrations.AddField(
            model_name="statementline",
            name="statement",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="lines",
                to="billing.statement",
            ),
        ),
        migrations.AddIndex(
            model_name="stripeevent",
            index=models.Index(
                condition=models.Q(("delivery", "pending")),
                fields=["next_attempt_at"],
                name="stripe_event_due",
            ),
        ),
        migrations.AddField(
            model_name="topup",
            name="by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="topup",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="top_ups",
                to="accounts.organisation",
            ),
        ),
        migrations.AddField(
            model_name="walletshard",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="wallet_shards",
                to="accounts.organisation",
            ),
        ),
        migrations.AddIndex(
            model_name="grant",
            index=models.Index(
                condition=models.Q(("remaining_nano__gt", 0)), fields=["org"], name="grant_open"
            ),
        ),
        migrations.AddConstraint(
            model_name="grant",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("held_nano__gte", 0),
                    ("held_nano__lte", models.F("remaining_nano")),
                    ("priority__lte", 100),
                    ("remaining_nano__lte", models.F("amount_nano")),
                ),
                name="grant_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="draw",
            constraint=models.UniqueConstraint(fields=("source", "grant"), name="draw_once"),
        ),
        migrations.AddConstraint(
            model_name="draw",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("captured_nano__gte", 0),
                    ("captured_nano__lte", models.F("held_nano")),
                    ("held_nano__gt", 0),
                ),
                name="draw_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.UniqueConstraint(fields=("org", "month"), name="invoice_month"),
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("due_cents__gte", 0),
                    ("granted_nano__gte", 0),
                    ("paid_cents__gte", 0),
                    ("paid_cents__lte", models.F("due_cents")),
                    ("prepaid_nano__gte", 0),
                ),
                name="invoice_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="creditnote",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_nano__gt", 0), ("cents__gte", 0)),
                name="credit_note_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="invoiceline",
            constraint=models.UniqueConstraint(fields=("invoice", "position"), name="invoice_line"),
        ),
        migrations.AddConstraint(
            model_name="invoiceline",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "amount_nano",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("granted_nano"), "+", models.F("prepaid_nano")
                            ),
                            "+",
                            models.F("postpaid_nano"),
                        ),
                    )
                ),
                name="invoice_line_adds_up",
            ),
        ),
        migrations.AddField(
            model_name="payout",
            name="org",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payouts",
                to="accounts.organisation",
            ),
        ),
        migrations.AddConstraint(
            model_name="statement",
            constraint=models.UniqueConstraint(fields=("org", "month"), name="statement_month"),
        ),
        migrations.AddConstraint(
            model_name="statement",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "carried_out_nano",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                django.db.models.expressions.CombinedExpression(
                                    models.F("carried_in_nano"), "+", models.F("earned_nano")
                                ),
                                "-",
                                models.F("clawed_back_nano"),
                            ),
                            "-",
                            django.db.models.expressions.CombinedExpression(
                                models.F("payout_cents"), "*", models.Value(10000000)
                            ),
                        ),
                    ),
                    ("clawed_back_nano__gte", 0),
                    ("earned_nano__gte", 0),
                    ("payout_cents__gte", 0),
                ),
                name="statement_adds_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "amount_nano",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                models.F("granted_nano"), "+", models.F("prepaid_nano")
                            ),
                            "+",
                            models.F("postpaid_nano"),
                        ),
                    ),
                    (
                        "amount_nano",
                        django.db.models.expressions.CombinedExpression(
                            models.F("vendors_nano"), "+", models.F("fee_nano")
                        ),
                    ),
                    ("amount_nano__gt", 0),
                    ("fee_nano__gte", 0),
                    ("granted_nano__gte", 0),
                    ("postpaid_nano__gte", 0),
                    ("prepaid_nano__gte", 0),
                    ("vendors_nano__gte", 0),
                ),
                name="refund_adds_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="spendalert",
            constraint=models.UniqueConstraint(
                fields=("subject_id", "month", "percent"), name="spend_alert_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="statementline",
            constraint=models.UniqueConstraint(
                fields=("statement", "position"), name="statement_line"
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.UniqueConstraint(
                condition=models.Q(("automatic", True), ("state", "pending")),
                fields=("org",),
                name="one_recharge_in_flight",
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.CheckConstraint(
                condition=models.Q(("cents__gt", 0), ("returned_cents__lte", models.F("cents"))),
                name="top_up_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="walletshard",
            constraint=models.UniqueConstraint(fields=("org", "shard"), name="wallet_shard"),
        ),
        migrations.AddConstraint(
            model_name="walletshard",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("held_nano__gte", 0),
                    ("limit_nano__gte", 0),
                    ("owed_nano__gte", 0),
                    ("prepaid_nano__gte", 0),
                ),
                name="wallet_not_negative",
            ),
        ),
        migrations.AddConstraint(
            model_name="payout",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("cents__gt", 0),
                    ("reversed_cents__gte", 0),
                    ("reversed_cents__lte", models.F("cents")),
                ),
                name="payout_in_bounds",
            ),
        ),
        migrations.RunSQL(DATA, migrations.RunSQL.noop),
        migrations.RemoveField(
            model_name="hold",
            name="cap_subject_id",
        ),
        migrations.RemoveField(
            model_name="wallet",
            name="credit_limit_nano",
        ),
        migrations.RemoveField(
            model_name="wallet",
            name="held_nano",
        ),
        migrations.RemoveField(
            model_name="wallet",
            name="owed_nano",
        ),
        migrations.RemoveField(
            model_name="wallet",
            name="prepaid_nano",
        ),
        migrations.RunSQL(
            "DROP FUNCTION billing_settle; DROP FUNCTION billing_reserve;"
            "DROP FUNCTION billing_credit; DROP FUNCTION billing_post;" + FUNCTIONS,
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL("DROP TRIGGER billing_charge_immutable ON billing_charge;"),
        protect("billing_charge", "prepaid_batch_id", "postpaid_batch_id", "invoice_id"),
        protect("billing_refund", "prepaid_batch_id", "postpaid_batch_id", "invoice_id"),
        protect("billing_statemententry"),
    ]
