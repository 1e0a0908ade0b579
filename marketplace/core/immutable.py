"""Rows that never change, enforced by PostgreSQL: a trigger, and privileges taken away."""

from django.db import migrations

FUNCTION = """
CREATE OR REPLACE FUNCTION mercato_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- TG_ARGV names the columns that may still change.
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION '% is append-only: rows are never deleted', TG_TABLE_NAME;
    END IF;
    IF to_jsonb(NEW) - TG_ARGV[0]::text[] <> to_jsonb(OLD) - TG_ARGV[0]::text[] THEN
        RAISE EXCEPTION '% is append-only: rows are never changed', TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
"""


def protect(table: str, *may_change: str) -> migrations.RunSQL:
    """Return the migration step that forbids DELETE, and UPDATE of all but some columns."""
    columns = "{" + ",".join(may_change) + "}"
    # The owner's own privileges too, which a superuser does not need: hence the trigger.
    revoked = "DELETE, TRUNCATE" if may_change else "UPDATE, DELETE, TRUNCATE"
    return migrations.RunSQL(
        f"""
        CREATE TRIGGER {table}_immutable BEFORE UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION mercato_immutable('{columns}');
        REVOKE {revoked} ON {table} FROM PUBLIC, CURRENT_USER;
        """,
        f"DROP TRIGGER {table}_immutable ON {table};",
    )


def allow_references(table: str, key: str = "id") -> migrations.RunSQL:
    """Return the step that lets foreign keys refer to a table of which nothing may change.

    Their checks lock the row as the table's owner, who needs the privilege to update some
    column for that, unless a superuser. The trigger still refuses every change.
    """
    return migrations.RunSQL(
        f"GRANT UPDATE ({key}) ON {table} TO CURRENT_USER;",
        f"REVOKE UPDATE ({key}) ON {table} FROM CURRENT_USER;",
    )
