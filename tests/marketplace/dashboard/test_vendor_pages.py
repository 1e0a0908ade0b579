"""A vendor's story on the pages: licence, model, version, price, review, earnings."""

import json

import pytest

from marketplace.catalog.models import Licence, Model, Price, Version
from marketplace.catalog.services import version_decide, version_submit
from tests.cast import SCHEMA, listed_version, open_licence

DIGEST = "sha256:" + "a" * 64


def version_form(licence, **changes):
    return {
        "weights_uri": "starter:starter-image",
        "weights_digest": DIGEST,
        "family": "flux",
        "input_schema": json.dumps(SCHEMA),
        "licence": str(licence.pk),
        "hardware_class": "small",
        "max_engine_s": "60",
        **changes,
    }


def test_a_vendor_lists_a_model_from_licence_to_gallery(charlie, visitor, cast):
    terms = {"title": "Fair", "slug": "fair", "kind": "commercial", "text": "Be fair."}
    charlie.post("/vendor/licences/", {**terms, "revenue_share": "82.5", "royalty": "0"})
    licence = Licence.objects.get(org=cast.stranger)
    assert licence.revenue_share_bps == 8250
    made = charlie.post(
        "/vendor/models/new/",
        {
            "name": "dusk",
            "title": "Dusk",
            "task": "text-to-image",
            "category": "general",
            "visibility": "public",
        },
    )
    assert made["Location"] == "/vendor/models/dusk/listing/weights/"
    made = charlie.post("/vendor/models/dusk/versions/new/", version_form(licence, base=cast.ref))
    here = "/vendor/models/dusk/versions/1/"
    assert made["Location"] == here
    assert b"Set a price, then submit" in charlie.get(here).content
    charlie.post(f"{here}price/", {"unit": "image", "unit_price": "0.01", "minimum": ""})
    assert charlie.post(f"{here}submit/").status_code == 404  # only from its listing, tested
    version = version_submit(version=Version.objects.get(model__name="dusk"))
    assert version.status == "submitted"
    assert version.base == cast.version
    version_decide(version=version, after="draft", by=cast.sam, note="Blurred samples.")
    assert b"Blurred samples." in charlie.get(here).content
    version.refresh_from_db()
    version = version_submit(version=version)
    version_decide(version=version, after="listed", by=cast.sam)
    page = visitor.get("/models/charlie/dusk/").content.decode()
    assert "$0.01 per image" in page
    assert "royalty for atelier/sketch:1" in page
    assert "72.5 %" in page  # 82.5 less the 10 of the base
    assert "Dusk" in visitor.get("/").content.decode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights_uri": "http://example.org/x"}, "Begin with one of"),
        ({"weights_digest": "sha256:short"}, "64 hexadecimal digits"),
        ({"weights_uri": "s3://weights/x"}, "reads weights from no S3 bucket"),
        ({"profile": '{"quality": "best"}'}, "quality must be one of"),
        ({"lora": "on"}, "A LoRA needs the version"),
        ({"input_schema": "{not json"}, "Enter a valid JSON."),
        ({"input_schema": '{"type": "array"}'}, "It must have"),
        ({"base": "no/such"}, "There is no model"),
        ({"max_engine_s": "0"}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_field_of_a_version_is_named(alice, cast, change, said):
    answer = alice.post("/vendor/models/sketch/versions/new/", version_form(cast.licence, **change))
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert Version.objects.filter(model__name="sketch").count() == 1


def test_a_licence_of_another_vendor_cannot_be_chosen(alice, cast):
    theirs = open_licence(cast.stranger)
    answer = alice.post("/vendor/models/sketch/versions/new/", version_form(theirs))
    assert answer.status_code == 422
    assert Version.objects.filter(model__name="sketch").count() == 1


def test_what_people_read_can_be_changed_by_its_vendor_alone(alice, charlie, cast):
    text = {"title": "Sketch 2", "summary": "New", "description": "", "visibility": "unlisted"}
    assert charlie.post("/vendor/models/sketch/", text).status_code == 404
    assert Model.objects.get(name="sketch").title == "Sketch"
    assert alice.post("/vendor/models/sketch/", text).status_code == 302
    assert Model.objects.get(name="sketch").title == "Sketch 2"


def test_a_stranger_can_neither_price_nor_submit(charlie, cast):
    here = "/vendor/models/sketch/versions/1/"
    before = Price.objects.count()
    price = {"unit": "image", "unit_price": "0"}
    assert charlie.post(f"{here}price/", price).status_code == 404
    assert charlie.post("/vendor/models/sketch/listing/review/").status_code == 404
    assert Price.objects.count() == before


def test_a_taken_name_is_said_at_its_field(alice, cast):
    answer = alice.post(
        "/vendor/models/new/",
        {
            "name": "sketch",
            "title": "Again",
            "task": "text-to-image",
            "category": "general",
            "visibility": "private",
        },
    )
    assert answer.status_code == 422
    assert b'id="id_name_error"' in answer.content


def test_earnings_say_the_total_and_name_each_charge(alice, charlie, make_job):
    job = make_job("succeeded")
    page = alice.get("/vendor/earnings/").content.decode()
    assert "$0.0032" in page
    assert str(job.pk) in page
    assert "a red circle" not in page  # what was asked for is the developer's own
    assert str(job.pk) not in charlie.get("/vendor/earnings/").content.decode()


def test_a_royalty_is_among_the_earnings(alice, charlie, cast, make_job):
    licence = open_licence(cast.stranger, royalty=0)
    listed_version(cast.stranger, licence, cast.sam, name="derived", base=cast.version)
    cast.version.model.refresh_from_db()
    cast.version = Version.objects.get(model__name="derived")
    make_job("succeeded")
    page = alice.get("/vendor/earnings/").content.decode()
    assert "royalty: made from yours" in page
    assert "$0.0004" in page
    assert "$0.0028" in charlie.get("/vendor/earnings/").content.decode()


def test_a_description_runs_no_markup_of_its_vendor(visitor, cast):
    model = cast.version.model
    model.description = (
        "**bold** <script>x</script> ![i](https://e.example/i.png) [l](javascript:alert(1))"
    )
    model.save()
    page = visitor.get("/models/atelier/sketch/").content.decode()
    assert "<strong>bold</strong>" in page
    assert "<script>x" not in page
    assert '<img src="https://e.example' not in page
    assert 'href="javascript' not in page
