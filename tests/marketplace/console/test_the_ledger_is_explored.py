"""Staff read the ledger by account, source, kind and period, page by page, and rate again."""

from datetime import timedelta

import pytest

from billing.models import Account, Charge, Refund, Transfer
from marketplace.console import ledger
from marketplace.console.models import StaffAct
from marketplace.console.story import rerate
from marketplace.core.clock import now
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.cast import report_finished

pytestmark = pytest.mark.django_db
PAGE = "/console/ledger/transfers/"


def ids(answer):
    return [row.pk for row in answer.context["rows"]]


def test_pages_of_every_filter_show_each_transfer_once_newest_first(sam, charge, cast, monkeypatch):
    for _ in range(3):
        job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
        services.job_finished(report_finished(job))
    monkeypatch.setattr(ledger, "PAGE", 4)
    clearing = Account.objects.get(kind="clearing")
    wanted = {
        "": Transfer.objects.all(),
        "kind=share": Transfer.objects.filter(kind="share"),
        f"source={charge.pk}": Transfer.objects.filter(source_id=charge.pk),
        f"account={clearing.pk}": Transfer.objects.filter(debit=clearing)
        | Transfer.objects.filter(credit=clearing),
    }
    for query, rows in wanted.items():
        seen, following = [], f"{PAGE}?{query}"
        while True:
            answer = sam.get(following)
            seen += ids(answer)
            following = answer.context["older"]
            if not following:
                break
        assert seen == list(rows.order_by("-occurred_at", "-pk").values_list("pk", flat=True)), (
            query
        )
        assert len(seen) >= 3


def test_a_period_bounds_them(sam, charge):
    today = f"{now():%Y-%m-%d}"
    assert ids(sam.get(PAGE, {"since": today}))
    assert ids(sam.get(PAGE, {"until": today})) == []
    tomorrow = f"{now() + timedelta(days=1):%Y-%m-%d}"
    assert ids(sam.get(PAGE, {"since": tomorrow})) == []


def test_an_account_is_added_up_beside_its_wallet(sam, charge, cast):
    account = Account.objects.get(kind="wallet", org=cast.developer)
    page = sam.get(f"/console/ledger/accounts/{account.pk}/")
    assert page.context["balance"] == 996_000_000
    assert page.context["kept"] == 996_000_000
    assert "the same" in page.content.decode()
    listed = sam.get("/console/ledger/accounts/", {"org": "builders"})
    assert [sums for _, sums in listed.context["accounts"]] == [(4_000_000, 1_000_000_000)]


def test_the_story_tells_from_the_quote_to_the_refund(sam, charge):
    sam.post(
        f"/console/story/{charge.pk}/refund/",
        {"reason": "partial", "amount_usd": "0.001", "note": "Half.", "nonce": charge.pk},
    )
    page = sam.get(f"/console/story/{charge.pk}/")
    text = page.content.decode()
    for part in ("quoted at most $0.004", "Held $0.004", "Charged $0.004", "Gave back $0.001"):
        assert part in text
    assert len(page.context["transfers"]) == 6
    assert page.context["left"] == 3_000_000
    refund = Refund.objects.get()
    assert sam.get(f"/console/story/{refund.pk}/")["Location"] == f"/console/story/{charge.pk}/"
    act = StaffAct.objects.get()
    assert (act.verb, act.subject_id) == ("charge.refunded", str(charge.pk))


def test_a_refund_sent_twice_is_made_and_written_down_once(sam, charge):
    form = {"reason": "staff", "amount_usd": "0.001", "nonce": charge.pk}
    for _ in range(2):
        sam.post(f"/console/story/{charge.pk}/refund/", form)
    assert (Refund.objects.count(), StaffAct.objects.count()) == (1, 1)


@pytest.mark.parametrize("amount", ["1", "-1", "0", "lots"])
def test_a_wrong_amount_is_refused_at_its_field(sam, charge, amount):
    form = {"reason": "staff", "amount_usd": amount, "nonce": charge.pk}
    answer = sam.post(f"/console/story/{charge.pk}/refund/", form)
    assert answer.status_code == 422
    assert answer.context["form"].errors["amount_usd"]
    assert not Refund.objects.exists()


def test_a_source_is_rated_so_again_unless_what_was_measured_differs(sam, charge):
    text = sam.get(f"/console/story/{charge.pk}/?replay=1").content.decode()
    assert "We would rate it so again" in text
    job = Job.objects.get(pk=charge.pk)
    job.usage = {**job.usage, "images": 0}
    assert not rerate(job, Charge.objects.get(pk=charge.pk)).is_same


def test_viewing_transfers_is_not_refunding(staff, charge):
    browser = staff("view_transfer")
    assert "Refund</button>" not in browser.get(f"/console/story/{charge.pk}/").content.decode()
    answer = browser.post(f"/console/story/{charge.pk}/refund/", {"nonce": charge.pk})
    assert answer.status_code == 403
    assert staff("view_charge").get(f"/console/story/{charge.pk}/").status_code == 403


def test_acts_of_staff_are_never_changed_or_deleted(sam, charge):
    from django.db import InternalError, ProgrammingError, transaction

    sam.post("/console/ledger/invariants/")
    act = StaffAct.objects.get()
    for change in (lambda: StaffAct.objects.update(note="other"), act.delete):
        with pytest.raises((InternalError, ProgrammingError)), transaction.atomic():
            change()
