"""Prices of every scheme, licences to accept and promotion codes, on the pages."""

import pytest

from billing.selectors import balance_of
from marketplace.catalog import services
from marketplace.catalog.models import Licence, LicenceAcceptance, Price, Version
from marketplace.catalog.promotion_models import Promotion
from marketplace.core.money import to_nano
from tests.cast import listed_version
from tests.marketplace.dashboard.test_vendor_pages import version_form

PRICE = "/vendor/models/sketch/versions/1/price/"
HERE = "/vendor/models/sketch/versions/1/"


def set_price(client, **parts):
    return client.post(PRICE, {"unit": "image", "scheme": "flat", "unit_price": "1", **parts})


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"unit_price": "0.02", "minimum": "0.05"}, "$0.02 per image, at least $0.05"),
        (
            {"scheme": "volume", "unit_price": "", "tiers": "10: 0.01\nmore: 0.006\n"},
            "$0.006 to $0.01 per image by volume",
        ),
        (
            {"scheme": "package", "unit_price": "0.5", "package_size": "30", "unit": "step"},
            "$0.50 per 30 steps",
        ),
        ({"unit": "gpu_second", "free_quota": "100"}, "100 seconds on the GPU free a month"),
        ({"unit": "request", "unit_price": "0.1"}, "$0.10 per call"),
        # What the scheme does not have is not sent by the page, and not read if it is.
        ({"scheme": "graduated", "tiers": "more: 0.25", "package_size": "3"}, "$0.25 per image"),
    ],
)
def test_a_price_of_each_scheme_is_set_and_shown(alice, visitor, cast, parts, words):
    assert set_price(alice, **parts).status_code == 302
    assert words in alice.get(HERE).content.decode()
    assert words in visitor.get("/models/atelier/sketch/").content.decode()


@pytest.mark.parametrize(
    ("parts", "field", "said"),
    [
        ({"unit_price": ""}, "unit_price", "Say what it costs"),
        ({"scheme": "volume", "tiers": ""}, "tiers", "needs a list"),
        ({"scheme": "volume", "tiers": "ten: 1"}, "tiers", "is not such a line"),
        ({"scheme": "graduated", "tiers": "5: 1\n4: 1\nmore: 1"}, "tiers", "end above"),
        ({"scheme": "package"}, "package_size", "how many units"),
        ({"for_org": "nobody"}, "for_org", "no such organisation"),
        ({"ends_on": "2030-01-01"}, "ends_on", "Leave it empty"),
        ({"unit": "frame"}, "unit", "default num_frames"),
    ],
)
def test_a_wrong_part_of_a_price_is_said_at_its_field(alice, cast, parts, field, said):
    before = Price.objects.count()
    answer = set_price(alice, **parts)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert said in page[page.index(f'id="id_{field}_error"') :]
    assert Price.objects.count() == before


def test_a_negotiated_price_is_seen_by_its_customer_and_can_be_withdrawn(
    alice, bob, charlie, visitor, cast
):
    answer = set_price(alice, unit_price="0.001", for_org="builders", ends_on="2096-12-31")
    assert answer.status_code == 302
    place = "/models/atelier/sketch/"
    assert "$0.001 per image" in bob.get(place).content.decode()
    assert "agreed with your organisation, until 1 Jan 2097" in bob.get(place).content.decode()
    for other in (charlie, visitor):
        assert "$0.004 per image" in other.get(place).content.decode()
    assert "Bob&#x27;s Builders, until" in alice.get(HERE).content.decode()
    assert charlie.post(f"{PRICE}builders/withdraw/").status_code == 404
    assert alice.post(f"{PRICE}builders/withdraw/").status_code == 302
    assert "$0.004 per image" in bob.get(place).content.decode()
    assert alice.post(f"{PRICE}nobody/withdraw/").status_code == 404


def test_a_negotiated_price_alone_does_not_open_a_model(alice, cast):
    made = alice.post("/vendor/models/sketch/versions/new/", version_form(cast.licence))
    here = made["Location"]
    alice.post(f"{here}price/", {"unit": "image", "unit_price": "1", "for_org": "builders"})
    assert "Set a price, then submit it" in alice.get(here).content.decode()
    alice.post("/vendor/models/sketch/listing/review/")
    assert Version.objects.get(model__name="sketch", number=2).status == "draft"


def test_parents_are_named_on_the_form_and_shown(alice, cast):
    listed_version(cast.vendor, cast.licence, cast.sam, name="second")
    form = version_form(cast.licence, base=cast.ref, parents="atelier/second")
    made = alice.post("/vendor/models/sketch/versions/new/", form)
    page = alice.get(made["Location"]).content.decode()
    assert "atelier/sketch:1, atelier/second:1" in page
    wrong = alice.post(
        "/vendor/models/sketch/versions/new/", version_form(cast.licence, parents="no/such")
    )
    assert wrong.status_code == 422
    assert 'id="id_parents_error"' in wrong.content.decode()


@pytest.fixture
def study(cast):
    licence = services.licence_create(
        org=cast.vendor,
        slug="research",
        title="Research",
        kind="non-commercial",
        text="Only for research.",
        revenue_share_bps=8000,
    )
    return listed_version(cast.vendor, licence, cast.sam, name="study")


def accept(client, licence, **parts):
    form = {
        "text_digest": licence.text_digest,
        "declared_use": "non-commercial",
        "next": "/models/atelier/study/",
    }
    return client.post(f"/licences/{licence.pk}/accept/", form | parts)


def test_a_model_asks_for_acceptance_until_it_has_it(bob, alice, visitor, cast, study):
    place = "/models/atelier/study/"
    button = f"/licences/{study.licence.pk}/accept/"
    assert button in bob.get(place).content.decode()
    for other in (alice, visitor):
        assert button not in other.get(place).content.decode()
    refused = bob.post(f"{place}run/", {"in-prompt": "x", "nonce": "n"})
    assert refused.status_code == 422
    assert "has not accepted the licence" in refused.content.decode()
    assert accept(bob, study.licence)["Location"] == place
    row = LicenceAcceptance.objects.get()
    assert (row.org, row.user) == (cast.developer, cast.bob)
    assert button not in bob.get(place).content.decode()


def test_only_owners_and_admins_accept(dora, cast, study):
    assert accept(dora, study.licence).status_code == 403
    assert not LicenceAcceptance.objects.exists()


@pytest.mark.parametrize(
    "parts", [{"text_digest": "x"}, {"declared_use": "commercial"}, {"declared_use": ""}]
)
def test_a_wrong_acceptance_is_not_recorded(bob, study, parts):
    assert accept(bob, study.licence, **parts).status_code == 302
    assert not LicenceAcceptance.objects.exists()


@pytest.mark.parametrize("place", ["https://evil.example/", "//evil.example/models/", ""])
def test_accepting_never_leads_elsewhere(bob, study, place):
    assert accept(bob, study.licence, next=place)["Location"] == "/"


def test_a_licence_can_ask_for_acceptance(charlie, cast):
    terms = {"title": "Fair", "slug": "fair", "kind": "commercial", "text": "Be fair."}
    parts = {**terms, "revenue_share": "80", "royalty": "0", "needs_acceptance": "on"}
    charlie.post("/vendor/licences/", parts)
    assert Licence.objects.get(org=cast.stranger).must_be_accepted


def test_a_code_is_redeemed_on_the_billing_page(charlie, dora, cast):
    Promotion.objects.create(code="WELCOME-5", amount_nano=to_nano("5"))
    assert "Promotion code" in dora.get("/dashboard/billing/").content.decode()
    charlie.post("/dashboard/billing/code/", {"code": "welcome-5"})
    assert balance_of(cast.stranger.pk).available_nano == to_nano("5")
    again = charlie.post("/dashboard/billing/code/", {"code": "welcome-5"}, follow=True)
    assert "has used this code already" in again.content.decode()
    wrong = charlie.post("/dashboard/billing/code/", {"code": "nope"}, follow=True)
    assert "There is no such code." in wrong.content.decode()
    assert balance_of(cast.stranger.pk).available_nano == to_nano("5")
