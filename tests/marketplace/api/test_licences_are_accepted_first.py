"""Terms that must be accepted: who has not is told how, and each acceptance is on record."""

import pytest
from django.db import DatabaseError, transaction

from marketplace.accounts import services as accounts
from marketplace.catalog import services
from marketplace.catalog.models import LicenceAcceptance
from marketplace.jobs import services as jobs
from marketplace.jobs.models import Job
from tests.cast import SCHEMA, listed_version, open_licence


def licence_of(org, kind="non-commercial", slug="research", **extra):
    return services.licence_create(
        org=org,
        slug=slug,
        title="Research",
        kind=kind,
        text="Only for research.",
        revenue_share_bps=8000,
        **extra,
    )


@pytest.fixture
def licence(cast):
    return licence_of(cast.vendor)


@pytest.fixture
def model(cast, licence):
    return listed_version(cast.vendor, licence, cast.sam, name="study")


def call(api, version):
    body = {"model": version.model.ref, "input": {"prompt": "x"}}
    return api.post("/v1/jobs", body, format="json")


def accept(api, licence, **changes):
    body = {"text_digest": licence.text_digest, "declared_use": "non-commercial"} | changes
    return api.post(f"/v1/licences/{licence.pk}/accept", body, format="json")


def test_a_call_without_acceptance_is_refused_and_says_how(cast, api, model, licence):
    answer = call(api, model)
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert error["code"] == "licence_not_accepted"
    (named,) = error["licences"]
    assert named["id"] == str(licence.pk)
    assert named["text_digest"] == licence.text_digest
    assert named["accept"].endswith(f"/v1/licences/{licence.pk}/accept")
    assert not Job.objects.exists()


def test_after_accepting_the_text_calls_run(cast, api, model, licence):
    text = api.get(f"/v1/licences/{licence.pk}").json()
    assert text["text"] == "Only for research."
    assert text["must_be_accepted"] is True
    answer = accept(api, licence, text_digest=text["text_digest"])
    assert answer.status_code == 200
    assert call(api, model).status_code in (201, 202)
    row = LicenceAcceptance.objects.get()
    assert (row.org, row.licence, row.text_digest) == (cast.developer, licence, licence.text_digest)
    assert (row.api_key, row.user) == (cast.key, cast.bob)
    assert accept(api, licence).json()["id"] == answer.json()["id"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"text_digest": "sha256:" + "0" * 64}, "text_digest"),
        ({"declared_use": "commercial"}, "declared_use"),
        ({"declared_use": "none"}, "declared_use"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_another_text_or_use_is_refused_by_field(api, licence, changes, field):
    answer = accept(api, licence, **changes)
    assert answer.status_code == 422
    assert list(answer.json()["error"]["fields"]) == [field]
    assert not LicenceAcceptance.objects.exists()


def test_one_organisations_word_does_not_bind_another(api, stranger_api, model, licence):
    accept(api, licence)
    assert call(stranger_api, model).json()["error"]["code"] == "licence_not_accepted"


def test_a_new_text_is_accepted_anew(cast, api, model, licence):
    accept(api, licence)
    newer = licence_of(cast.vendor)
    other = listed_version(cast.vendor, newer, cast.sam, name="study-two")
    assert call(api, other).json()["error"]["licences"][0]["id"] == str(newer.pk)


def test_terms_of_what_it_was_made_from_bind_too(cast, api, model, licence):
    theirs = open_licence(cast.stranger)
    derived = listed_version(cast.stranger, theirs, cast.sam, name="derived", base=model)
    assert call(api, derived).json()["error"]["licences"][0]["id"] == str(licence.pk)
    accept(api, licence)
    assert call(api, derived).status_code in (201, 202)


def test_a_vendor_need_not_accept_its_own_terms(cast, model):
    price = services.price_set(version=model, unit="image", unit_price=0)
    job, _ = jobs.job_submit(org=cast.vendor, ref=model.model.ref, given={"prompt": "x"})
    assert job.price == price


def test_commercial_terms_ask_only_if_they_say_so(cast, api):
    plain = licence_of(cast.vendor, kind="commercial", slug="plain")
    asking = licence_of(cast.vendor, kind="commercial", slug="asking", needs_acceptance=True)
    free = listed_version(cast.vendor, plain, cast.sam, name="plain")
    asked = listed_version(cast.vendor, asking, cast.sam, name="asked")
    assert call(api, free).status_code in (201, 202)
    assert call(api, asked).status_code == 403
    assert accept(api, asking, declared_use="commercial").status_code == 200
    assert call(api, asked).status_code in (201, 202)


def test_accepting_needs_the_admin_scope(cast, licence):
    from rest_framework.test import APIClient

    _, secret = accounts.api_key_create(
        org=cast.developer, name="small", scopes=["run"], created_by=cast.bob
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert accept(client, licence).json()["error"]["code"] == "scope_missing"


def test_an_acceptance_is_never_changed(cast, api, licence):
    accept(api, licence)
    for change in (
        lambda: LicenceAcceptance.objects.update(declared_use="commercial"),
        lambda: LicenceAcceptance.objects.all().delete(),
    ):
        with pytest.raises(DatabaseError, match=r"append-only|permission"), transaction.atomic():
            change()


def test_a_lora_made_under_such_terms_is_not_worn_before_they_are_accepted(
    cast, api, model, licence
):
    fields = {**SCHEMA["properties"], "loras": {"type": "array", "maxItems": 4}}
    base = listed_version(
        cast.vendor,
        open_licence(cast.vendor, royalty=0),
        cast.sam,
        name="base",
        input_schema={**SCHEMA, "properties": fields},
    )
    lora = listed_version(
        cast.stranger,
        open_licence(cast.stranger, royalty=0),
        cast.sam,
        name="look",
        base=model,
        lora=True,
        weights_uri="file:///weights/look.safetensors",
        weights_digest="sha256:" + "5" * 64,
    )
    worn = {"prompt": "x", "loras": [{"uri": str(lora)}]}
    body = {"model": base.model.ref, "input": worn}
    refused = api.post("/v1/jobs", body, format="json")
    assert refused.status_code == 422
    assert "not accepted its licence" in refused.json()["error"]["message"]
    accept(api, licence)
    assert api.post("/v1/jobs", body, format="json").status_code in (201, 202)


@pytest.mark.parametrize("name", ["nonsense", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_licence_is_not_found(api, name):
    assert api.get(f"/v1/licences/{name}").status_code == 404
