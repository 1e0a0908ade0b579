"""Top-ups, billing details and automatic recharge over the API."""

import pytest

from billing.models import TopUp
from tests.billing.conftest import payments
from tests.billing.payin import hear, pay
from tests.stripe_standin import shared_standin, standin

__all__ = ["payments", "shared_standin", "standin"]
pytestmark = pytest.mark.django_db


def begin(api, cents=2500, **headers):
    return api.post("/v1/billing/top-ups", {"amount_cents": cents}, format="json", headers=headers)


def test_a_top_up_is_opened_paid_and_listed(cast, api, payments):
    made = begin(api)
    assert made.status_code == 201
    body = made.json()
    assert (body["state"], body["amount_cents"]) == ("pending", 2500)
    assert pay(payments, body["checkout_url"]).status == 200
    hear(payments, cast.developer.pk)
    assert api.get(f"/v1/billing/top-ups/{body['id']}").json()["state"] == "paid"
    assert [row["id"] for row in api.get("/v1/billing/top-ups").json()["results"]] == [body["id"]]


def test_a_repetition_with_the_same_key_opens_one_page(api, payments):
    first, second = (begin(api, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json()["checkout_url"] == second.json()["checkout_url"]
    assert TopUp.objects.count() == 1


@pytest.mark.parametrize(
    "body", [{"amount_cents": 499}, {"amount_cents": 0}, {}, {"amount_cents": "x"}, {"cents": 500}]
)
def test_a_wrong_amount_is_refused_and_named(api, payments, body):
    answer = api.post("/v1/billing/top-ups", body, format="json")
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"]
    assert not TopUp.objects.exists()


def test_without_stripe_it_says_so(api, cast, settings):
    settings.STRIPE_API_KEY = ""
    answer = begin(api)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "payments_unavailable"


def test_others_see_nothing_of_it(cast, api, stranger_api, payments):
    id_ = begin(api).json()["id"]
    assert stranger_api.get(f"/v1/billing/top-ups/{id_}").status_code == 404
    assert stranger_api.get("/v1/billing/top-ups").json()["results"] == []


def test_only_keys_that_may_manage_pay_and_change(cast, payments):
    from rest_framework.test import APIClient

    from marketplace.accounts.services import api_key_create

    _, secret = api_key_create(
        org=cast.developer, name="reader", scopes=["read"], created_by=cast.bob
    )
    reader = APIClient()
    reader.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert begin(reader).status_code == 403
    assert reader.patch("/v1/billing/profile", {}, format="json").status_code == 403
    assert reader.put("/v1/billing/recharge", {}, format="json").status_code == 403
    assert reader.get("/v1/billing/top-ups").status_code == 200


def test_billing_details_are_changed_in_part(api, payments):
    path = "/v1/billing/profile"
    assert api.patch(path, {"country": "FR", "city": "Paris"}, format="json").status_code == 200
    assert api.patch(path, {"legal_name": "Bob SARL"}, format="json").status_code == 200
    body = api.get(path).json()
    assert (body["legal_name"], body["city"], body["country"]) == ("Bob SARL", "Paris", "FR")
    wrong = api.patch(path, {"tax_id": "1"}, format="json")
    assert wrong.status_code == 422
    assert "tax_id_type" in wrong.json()["error"]["fields"]


def test_the_rule_for_recharges_is_set_and_explained(api, payments):
    path = "/v1/billing/recharge"
    assert api.get(path).json()["below_nano_usd"] is None
    rule = {"below_nano_usd": 5_000_000_000, "amount_cents": 2000, "monthly_cents": 10_000}
    body = api.put(path, rule, format="json").json()
    assert {name: body[name] for name in rule} == rule
    assert (body["card_saved"], body["stopped"]) == (False, "No card is saved.")
    wrong = api.put(path, rule | {"amount_cents": 1}, format="json")
    assert (wrong.status_code, list(wrong.json()["error"]["fields"])) == (422, ["amount_cents"])
    off = api.put(path, {"below_nano_usd": None}, format="json").json()
    assert off["below_nano_usd"] is None
