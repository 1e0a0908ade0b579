"""What was issued stays: invoices, their lines and credit notes, and what is bound to them."""

from django.db import migrations

from marketplace.core.immutable import protect

_MAY_CHANGE = (
    "status", "paid_cents", "paid_at", "mailed_at", "held", "approved_at", "approved_by_id",
    "stripe_invoice_id", "stripe_finalized_at", "hosted_url", "shares_fate",
)  # fmt: skip
_INVOICE = """
CREATE FUNCTION billing_issued_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'invoice % is issued: it is never deleted', OLD.number;
    END IF;
    IF NEW.status = 'draft'
       OR to_jsonb(NEW) - TG_ARGV[0]::text[] <> to_jsonb(OLD) - TG_ARGV[0]::text[] THEN
        RAISE EXCEPTION 'invoice % is issued: it never changes', OLD.number;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_invoice_issued BEFORE UPDATE OR DELETE ON billing_invoice
    FOR EACH ROW WHEN (OLD.status <> 'draft')
    EXECUTE FUNCTION billing_issued_stays('{MAY_CHANGE}');
"""
_LINE = """
CREATE FUNCTION billing_issued_line_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM billing_invoice WHERE status <> 'draft' AND id IN (
                   CASE WHEN TG_OP <> 'INSERT' THEN OLD.invoice_id END,
                   CASE WHEN TG_OP <> 'DELETE' THEN NEW.invoice_id END)) THEN
        RAISE EXCEPTION 'the invoice is issued: its lines never change';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER billing_invoiceline_issued BEFORE INSERT OR UPDATE OR DELETE
    ON billing_invoiceline FOR EACH ROW EXECUTE FUNCTION billing_issued_line_stays();
"""
_BINDING = """
CREATE FUNCTION billing_binding_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.prepaid_batch_id IS DISTINCT FROM NEW.prepaid_batch_id
       AND OLD.prepaid_batch_id IS NOT NULL
       OR OLD.postpaid_batch_id IS DISTINCT FROM NEW.postpaid_batch_id
       AND OLD.postpaid_batch_id IS NOT NULL THEN
        RAISE EXCEPTION '%: a row never leaves its meter batch', TG_TABLE_NAME;
    END IF;
    IF EXISTS (SELECT FROM billing_invoice
               WHERE id = OLD.invoice_id AND id IS DISTINCT FROM NEW.invoice_id
                 AND status <> 'draft') THEN
        RAISE EXCEPTION '%: a row never leaves an issued invoice', TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
"""


def _bound(table: str) -> str:
    """Return the trigger that keeps a table's rows bound; the first binding does not run it."""
    changed = " OR ".join(
        f"(OLD.{name}_id IS NOT NULL AND OLD.{name}_id IS DISTINCT FROM NEW.{name}_id)"
        for name in ("prepaid_batch", "postpaid_batch", "invoice")
    )
    return f"""
        CREATE TRIGGER {table}_bound BEFORE UPDATE ON {table} FOR EACH ROW
            WHEN ({changed}) EXECUTE FUNCTION billing_binding_stays();
        """


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_given_up_shares")]

    operations = [
        migrations.RunSQL(
            _INVOICE.replace("MAY_CHANGE", ",".join(_MAY_CHANGE)),
            "DROP TRIGGER billing_invoice_issued ON billing_invoice;"
            "DROP FUNCTION billing_issued_stays;",
        ),
        migrations.RunSQL(
            _LINE,
            "DROP TRIGGER billing_invoiceline_issued ON billing_invoiceline;"
            "DROP FUNCTION billing_issued_line_stays;",
        ),
        protect("billing_creditnote", "stripe_credit_note_id"),
        migrations.RunSQL(
            _BINDING + _bound("billing_charge") + _bound("billing_refund"),
            "DROP TRIGGER billing_charge_bound ON billing_charge;"
            "DROP TRIGGER billing_refund_bound ON billing_refund;"
            "DROP FUNCTION billing_binding_stays;",
        ),
    ]
