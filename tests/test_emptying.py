"""What a test with real transactions wrote is gone before the next; what migrations wrote stays."""

import threading

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from billing import services as billing
from marketplace.accounts.models import User
from marketplace.core.money import to_nano
from tests import emptying
from tests.cast import make_cast


def test_everything_that_was_written_is_gone(transactional_db):
    cast = make_cast()
    top_up = to_nano("1")  # its rows of the ledger refuse to be deleted otherwise
    billing.credit_top_up(org_id=cast.developer.pk, amount_nano=top_up, source="test:emptying")
    kinds, permissions = ContentType.objects.count(), Permission.objects.count()
    emptying.empty()
    with connection.cursor() as cursor:
        assert emptying._with_rows(cursor) == []
    assert (ContentType.objects.count(), Permission.objects.count()) == (kinds, permissions)
    assert permissions


def test_who_still_writes_is_waited_for(transactional_db):
    wrote, may_end = threading.Event(), threading.Event()

    def write():
        try:
            with transaction.atomic():
                User.objects.create(email="late@example.org")
                wrote.set()
                may_end.wait(10)
        finally:
            connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    assert wrote.wait(10)
    threading.Timer(0.3, may_end.set).start()
    emptying.empty()
    thread.join()
    assert not User.objects.exists()
