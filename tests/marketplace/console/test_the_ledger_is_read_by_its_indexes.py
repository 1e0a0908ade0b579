"""However many transfers there are, a page of them is read by an index.

`LEDGER_ROWS=1000000 pytest -s` on this file prints how long the pages take.
"""

import os
import statistics
import time

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from billing.models import Account, AccountKind
from marketplace.core.clock import now

pytestmark = pytest.mark.django_db
ROWS = int(os.environ.get("LEDGER_ROWS", "20000"))
PAGE = "/console/ledger/transfers/"
FILL = """
INSERT INTO billing_transfer
    (id, debit_id, credit_id, amount_nano, kind, source_id, leg, occurred_at, created_at)
SELECT gen_random_uuid(), %s, %s, 1, (ARRAY['share', 'fee', 'fund_prepaid'])[1 + g %% 3],
       gen_random_uuid(), 0, now() - g * interval '1 second', now()
FROM generate_series(1, %s) g
"""


@pytest.mark.timeout(600)
def test_no_page_of_transfers_reads_them_all(sam, charge, cast):
    clearing = Account.objects.get(kind=AccountKind.CLEARING)
    vendor = Account.objects.get(kind=AccountKind.PAYABLE, org=cast.vendor)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(FILL, [clearing.pk, vendor.pk, ROWS])
            cursor.execute("ANALYZE billing_transfer")
        first = sam.get(PAGE).context["older"]
        places = [
            PAGE, first, f"{PAGE}?kind=share", f"{PAGE}?kind=dispute",
            f"{PAGE}?account={clearing.pk}", f"{PAGE}?account={vendor.pk}&until={now():%Y-%m-%d}",
            f"{PAGE}?source={charge.pk}", f"/console/story/{charge.pk}/",
        ]  # fmt: skip
        for place in places:
            with CaptureQueriesContext(connection) as captured:
                assert sam.get(place).status_code == 200
            for query in captured:
                if '"billing_transfer"' in query["sql"]:
                    with connection.cursor() as cursor:
                        cursor.execute("EXPLAIN " + query["sql"])
                        plan = "\n".join(row[0] for row in cursor.fetchall())
                    assert "Seq Scan on billing_transfer" not in plan, f"{place}\n{plan}"
            print(f"{ROWS} transfers, {place.partition('?')[2] or place}: {_median(sam, place)} ms")
        transaction.set_rollback(True)


def _median(browser, place):
    took = []
    for _ in range(5):
        began = time.perf_counter()
        browser.get(place)
        took.append(time.perf_counter() - began)
    return round(1000 * statistics.median(took), 1)
