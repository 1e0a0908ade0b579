"""Staff make codes in the console; what one is worth is fixed from then on."""

import pytest
from django.test import Client

from marketplace.catalog.promotion_models import Promotion
from marketplace.core.money import to_nano
from tests.cast import staff_sign_in

PLACE = "/console/catalog/promotion/"
TIME = {"starts_at": "2026-01-01T00:00", "ends_at": ""}


@pytest.fixture
def staff(cast):
    client = Client()
    staff_sign_in(client, cast.sam)
    return client


def test_a_code_is_made_and_its_worth_stays(staff, cast):
    form = {"code": "launch-10", "amount_usd": "10", "max_uses": "100", "note": "", **TIME}
    form |= {"credit_days": "90", "model": str(cast.version.model_id)}
    answer = staff.post(f"{PLACE}add/", form)
    assert answer.status_code == 302, answer.content.decode()
    made = Promotion.objects.get()
    assert (made.code, made.amount_nano, made.created_by) == (
        "LAUNCH-10", to_nano("10"), cast.sam,
    )  # fmt: skip
    assert (made.credit_days, made.model) == (90, cast.version.model)
    changed = {
        "code": "OTHER",
        "credit_days": "1",
        "model": "",
        "amount_usd": "99",
        "max_uses": "5",
        "note": "less",
        **TIME,
    }
    assert staff.post(f"{PLACE}{made.pk}/change/", changed).status_code == 302
    made.refresh_from_db()
    assert (made.code, made.amount_nano, made.max_uses) == ("LAUNCH-10", to_nano("10"), 5)
    assert (made.credit_days, made.model) == (90, cast.version.model)
    assert staff.post(f"{PLACE}{made.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(("code", "usd"), [("no spaces", "1"), ("ABC", "1"), ("GOOD", "0")])
def test_a_senseless_code_is_refused(staff, code, usd):
    form = {"code": code, "amount_usd": usd, "max_uses": "", "note": "", **TIME}
    assert staff.post(f"{PLACE}add/", form).status_code == 200
    assert not Promotion.objects.exists()


@pytest.mark.parametrize("table", ["promotion", "licenceacceptance", "freequotause", "version"])
def test_the_lists_open(staff, table):
    assert staff.get(f"/console/catalog/{table}/").status_code == 200
