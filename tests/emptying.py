"""Empties the database after a test whose transactions were real, where Django takes long.

Django truncates every table and then writes all content types and permissions anew: most of a
second for what is a few rows in a few tables. Those of content types and permissions stay here,
and of the other tables only those with rows are emptied.
"""

from functools import cache

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

KEPT = {"django_content_type", "auth_permission"}
"""What migrations write, and no test changes."""


@cache
def _tables() -> list[str]:
    known = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return [connection.ops.quote_name(name) for name in sorted(known) if name not in KEPT]


def _with_rows(cursor: CursorWrapper) -> list[str]:
    asked = ", ".join(f"EXISTS (SELECT FROM {table})" for table in _tables())
    cursor.execute(f"SELECT {asked}")
    found = cursor.fetchone()
    assert found is not None
    return [table for table, has in zip(_tables(), found, strict=True) if has]


def empty(*_: object) -> None:
    """Delete all rows, once whoever writes some still has ended its transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {', '.join(_tables())} IN SHARE ROW EXCLUSIVE MODE")
        if tables := _with_rows(cursor):
            # No trigger shall refuse it, and no foreign key asks for an order.
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("; ".join(f"DELETE FROM {table}" for table in tables))
