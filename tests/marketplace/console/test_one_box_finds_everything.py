"""The console's search: exact ids first, then Stripe's, then names; each by its permission."""

import pytest

from billing.models import PayoutAccount, TopUp, Wallet

pytestmark = pytest.mark.django_db


def kinds(browser, text):
    answer = browser.get("/console/search/", {"q": text})
    return {group.kind: group.rows for group in answer.context["found"]}


def test_an_id_with_one_page_opens_it(sam, charge, cast):
    answer = sam.get("/console/search/", {"q": str(charge.pk)})
    assert answer["Location"] == f"/console/story/{charge.pk}/"
    answer = sam.get("/console/search/", {"q": str(cast.developer.pk)})
    assert answer["Location"] == "/console/organisations/builders/"


def test_stripes_ids_are_found(sam, cast):
    Wallet.objects.filter(org=cast.developer).update(stripe_customer_id="cus_9")
    PayoutAccount.objects.create(org=cast.vendor, stripe_account_id="acct_9")
    TopUp.objects.create(
        org=cast.developer, cents=500, payment_intent_id="pi_9", checkout_id="cs_9"
    )
    assert "Customers at Stripe" in kinds(sam, "cus_9")
    assert "Vendors at Stripe" in kinds(sam, "acct_9")
    assert "Top-ups" in kinds(sam, "pi_9")
    assert kinds(sam, "pi_8") == {}


def test_names_addresses_and_keys_are_found(sam, cast):
    assert list(kinds(sam, "bob@example.org")) == ["People"]
    assert {"Organisations"} == set(kinds(sam, "Builders"))
    assert "Models" in kinds(sam, "atelier/sketch")
    assert "Models" in kinds(sam, "sket")
    assert "API keys" in kinds(sam, cast.key.prefix)


def test_a_whole_key_is_found_by_its_beginning_only(sam, cast):
    found = kinds(sam, cast.secret)
    assert [hit.label for hit in found["API keys"]] == [str(cast.key)]


def test_staff_find_only_what_they_may_see(staff, cast, rf):
    browser = staff("view_version")
    assert kinds(browser, "bob@example.org") == {}
    assert kinds(browser, str(cast.version.weights_digest))


def test_odd_texts_are_no_faults(sam):
    for text in ("", " ", "%", "'", "a" * 500, "../..", "mk_", "pi_", "0"):
        assert sam.get("/console/search/", {"q": text}).status_code == 200
