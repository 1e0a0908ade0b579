"""The lines of an invoice add up to what is due, whatever was used: against plain Python."""

import uuid
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from django.db import connection
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from billing.invoicing import sql

pytestmark = pytest.mark.django_db
CENT = 10_000_000
_NANO = st.one_of(
    st.integers(0, 10**15),
    st.integers(0, 1000).map(lambda n: n * CENT // 2),
    st.integers(-(10**9), 10**9),
)


def lines_of(amounts):
    """Compute the lines of an invoice of one call for each of `amounts`, each another model."""
    rows = " UNION ALL ".join(
        "SELECT 1 AS invoice_id, %s AS model_ref, %s::uuid AS version_id, %s::uuid AS price_id,"
        " 'image' AS unit, '2026-10-01'::date AS month, 1 AS calls, 1 AS quantity,"
        " 0 AS granted, 0 AS prepaid, %s::bigint AS postpaid"
        for _ in amounts
    )
    nil = uuid.UUID(int=0)
    given_ = [v for n, nano in enumerate(amounts) for v in (f"m{n:03}", nil, nil, nano)]
    with connection.cursor() as cursor:
        cursor.execute(sql.lines(rows), given_)
        return [(row[12], row[13]) for row in cursor.fetchall()]


@given(st.lists(_NANO, min_size=1, max_size=12).filter(lambda nano: sum(nano) >= 0))
@example([CENT // 2, CENT])
@example([CENT + CENT // 2])
@example([3_333_333] * 3)
@example([-CENT, CENT])
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_lines_add_up_and_none_is_off_by_a_cent(amounts):
    found = lines_of(amounts)
    due = int((Decimal(sum(amounts)) / CENT).to_integral_value(ROUND_HALF_EVEN))
    assert sum(cents for _, cents in found) == due
    assert all(-CENT < cents * CENT - nano < CENT for nano, cents in found)
