"""Which LoRAs a caller may name: listed ones, its own, its uploads; never a file of the worker."""

import pytest
from django.test import Client

from billing import services as billing
from inference import protocol
from inference.engine.request import GenerationRequest
from marketplace.accounts import services as accounts
from marketplace.catalog import services as catalog
from marketplace.catalog.models import Status, Version, Visibility
from marketplace.core.errors import InvalidInput, NotAllowed, WrongState
from marketplace.jobs import dispatch, services
from marketplace.jobs.models import Job
from tests.cast import SCHEMA, listed_version, open_licence

TAKES_LORAS = {
    **SCHEMA,
    "properties": {**SCHEMA["properties"], "loras": {"type": "array", "maxItems": 4}},
}
DIGESTS = (f"sha256:{number:064x}" for number in range(1, 10_000))


@pytest.fixture
def base(cast):
    return listed_version(
        cast.vendor, cast.licence, cast.sam, name="base", input_schema=TAKES_LORAS
    )


@pytest.fixture
def make_lora(cast, base):
    def make(org=cast.vendor, name="look", royalty=0, kind="open", listed=True, **parts):
        licence = catalog.licence_create(
            org=org, slug=f"l-{name}", title="L", kind=kind, text="Do.", revenue_share_bps=8000,
            royalty_bps=royalty,
        )  # fmt: skip
        parts = {
            "weights_uri": f"file:///weights/{name}.safetensors",
            "weights_digest": next(DIGESTS),
            "base": base,
            "lora": True,
            "input_schema": TAKES_LORAS,
            **parts,
        }
        if listed:
            return listed_version(org, licence, cast.sam, name=name, **parts)
        model = catalog.model_create(org=org, name=name, title="L", task="text-to-image")
        return catalog.version_create(model=model, family="flux", licence=licence, **parts)

    return make


def submit(org, ref, *uris, **more):
    given = {"prompt": "x", "loras": [{"uri": str(uri)} for uri in uris], **more}
    return services.job_submit(org=org, ref=ref, given=given)[0]


def refused(org, ref, *uris, **more):
    with pytest.raises(InvalidInput) as refusal:
        submit(org, ref, *uris, **more)
    assert Job.objects.count() == 0
    (field,) = refusal.value.fields
    return field


def upload(api, body=b"12345678", name="look.safetensors"):
    made = api.post(
        "/v1/files", {"name": name, "content_type": "application/octet-stream"}, format="json"
    ).json()
    put = made["upload"]
    answer = Client().put(put["url"], body, content_type=put["headers"]["Content-Type"])
    assert answer.status_code == 201
    return made["id"]


def test_a_listed_lora_reaches_the_worker_with_its_digest(cast, base, make_lora):
    look = make_lora()
    job = submit(cast.developer, "atelier/base", "atelier/look")
    assert job.input["loras"] == [{"uri": "atelier/look:1", "scale": 1.0}]
    message = dispatch.message_for(job)
    assert message.input["loras"] == [
        {"uri": look.weights_uri, "digest": look.weights_digest, "scale": 1.0}
    ]
    assert message.version.weights_uri == base.weights_uri
    (read,) = GenerationRequest.from_dict({"prompt": "x", "loras": message.input["loras"]}).loras
    assert (read.uri, read.digest) == (look.weights_uri, look.weights_digest)


def test_what_is_named_stays_what_it_was(cast, base, make_lora):
    first = make_lora()
    job = submit(cast.developer, "atelier/base", "atelier/look")
    second = catalog.version_create(
        model=first.model, weights_uri="file:///weights/new.safetensors", family="flux",
        weights_digest=next(DIGESTS), input_schema=TAKES_LORAS, licence=first.licence, base=base,
        lora=True,
    )  # fmt: skip
    assert second.number == 2
    assert dispatch.message_for(job).input["loras"][0]["digest"] == first.weights_digest


@pytest.mark.parametrize(
    "uri",
    [
        "file:///weights/look.safetensors",
        "file:///etc/passwd",
        "starter:pastel",
        "s3://weights/look",
        "https://example.org/look.safetensors",
        "http://169.254.169.254/look",
        "upload:1",
        "../look",
        "look",
        "",
        "atelier/look:0x1",
        "atelier/look:٣",
        "atelier/look/1",
        "00000000-0000-0000-0000-000000000001",
    ],
)
def test_addresses_of_files_are_refused(cast, base, make_lora, uri):
    make_lora()
    assert refused(cast.developer, "atelier/base", uri) == "input.loras.0.uri"


def test_the_refusal_is_an_answer_that_names_the_field(cast, base, api):
    given = {"prompt": "x", "loras": [{"uri": "file:///etc/passwd"}]}
    answer = api.post("/v1/jobs", {"model": "atelier/base", "input": given}, format="json")
    assert answer.status_code == 422
    assert "vendor/name:number" in str(answer.json())
    assert "input.loras.0.uri" in str(answer.json())


def test_anothers_private_lora_is_refused_as_if_it_were_not_there(cast, base, make_lora):
    make_lora(visibility=Visibility.PRIVATE)
    field = refused(cast.developer, "atelier/base", "atelier/look")
    assert field == refused(cast.developer, "atelier/base", "atelier/nothing")


def test_anothers_draft_is_refused(cast, base, make_lora):
    make_lora(listed=False)
    assert refused(cast.developer, "atelier/base", "atelier/look:1") == "input.loras.0.uri"


def test_a_suspended_one_is_refused_even_to_its_vendor(cast, base, make_lora):
    look = make_lora()
    catalog.version_decide(version=look, after=Status.SUSPENDED, by=cast.sam, note="Stolen.")
    billing.credit_top_up(org_id=cast.vendor.pk, amount_nano=10**9, source="test:vendor")
    for org in (cast.developer, cast.vendor):
        assert refused(org, "atelier/base", "atelier/look") == "input.loras.0.uri"


def test_a_private_one_of_ones_own_may_be_used(cast, base, make_lora):
    mine = make_lora(
        org=cast.developer, name="mine", kind="commercial", visibility=Visibility.PRIVATE
    )
    job = submit(cast.developer, "atelier/base", "builders/mine")
    assert dispatch.message_for(job).input["loras"][0]["digest"] == mine.weights_digest


def test_one_of_ones_own_is_not_used_before_review(cast, base, make_lora):
    make_lora(org=cast.developer, name="mine", listed=False)
    assert refused(cast.developer, "atelier/base", "builders/mine") == "input.loras.0.uri"


@pytest.mark.parametrize("terms", [{"royalty": 500}, {"kind": "commercial"}])
def test_one_whose_vendor_is_to_be_paid_is_called_itself(cast, base, make_lora, terms):
    make_lora(**terms)
    with pytest.raises(InvalidInput, match="call atelier/look itself"):
        submit(cast.developer, "atelier/base", "atelier/look")


def test_a_free_lora_does_not_take_the_royalty_of_its_base_away(cast, base, make_lora):
    make_lora(org=cast.stranger)
    other = listed_version(
        cast.stranger, open_licence(cast.stranger, royalty=0), cast.sam, name="other",
        input_schema=TAKES_LORAS,
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="call charlie/look itself"):
        submit(cast.developer, "charlie/other", "charlie/look")
    # Who is owed it is paid by a call of any model of its own, or of what is made from one.
    submit(cast.developer, "atelier/base", "charlie/look")
    listed_version(cast.vendor, cast.licence, cast.sam, name="sister", input_schema=TAKES_LORAS)
    submit(cast.developer, "atelier/sister", "charlie/look")
    listed_version(
        cast.stranger, other.licence, cast.sam, name="tuned", base=base,
        input_schema=TAKES_LORAS,
    )  # fmt: skip
    submit(cast.developer, "charlie/tuned", "charlie/look")


def test_a_key_for_some_models_wears_no_others(cast, base, make_lora):
    make_lora(org=cast.developer, name="mine", visibility=Visibility.PRIVATE)
    given = {"prompt": "x", "loras": [{"uri": "builders/mine"}]}

    def call(*models):
        key, _ = accounts.api_key_create(org=cast.developer, name="k", allowed_models=models)
        parts = {"org": cast.developer, "ref": "atelier/base", "given": given, "api_key": key}
        return services.job_submit(**parts)[0]

    with pytest.raises(NotAllowed) as refusal:
        call("atelier/base")
    assert refusal.value.code == "model_not_allowed"
    assert Job.objects.count() == 0
    assert call("atelier/base", "builders/mine").input["loras"][0]["uri"] == "builders/mine:1"


def test_a_model_is_no_lora(cast, base):
    assert refused(cast.developer, "atelier/base", cast.ref) == "input.loras.0.uri"


def test_one_of_another_family_is_refused(cast, base, make_lora):
    other = listed_version(
        cast.vendor, cast.licence, cast.sam, name="xl", family="sdxl", input_schema=TAKES_LORAS
    )
    make_lora(name="xl-look", base=other, family="sdxl")
    assert refused(cast.developer, "atelier/base", "atelier/xl-look") == "input.loras.0.uri"


@pytest.mark.parametrize(
    ("loras", "field"),
    [
        ("atelier/look", "input.loras"),
        ([{"uri": "atelier/look"}] * 9, "input.loras"),
        (["atelier/look"], "input.loras.0"),
        ([{}], "input.loras.0"),
        ([{"uri": "atelier/look", "digest": "sha256:0"}], "input.loras.0.digest"),
        ([{"uri": "atelier/look", "data": "x"}], "input.loras.0.data"),
        ([{"uri": "atelier/look"}, {"uri": "atelier/look", "scale": 5}], "input.loras.1.scale"),
        ([{"uri": "atelier/look", "scale": True}], "input.loras.0.scale"),
        ([{"uri": "atelier/look", "scale": float("nan")}], "input.loras.0.scale"),
        ([{"uri": "atelier/look", "scale": float("inf")}], "input.loras.0.scale"),
        ([{"uri": "atelier/look", "scale": 10**400}], "input.loras.0.scale"),
        ([{"uri": "atelier/look", "scale": "1"}], "input.loras.0.scale"),
    ],
)
def test_a_malformed_list_is_refused_by_field(cast, make_lora, loras, field):
    make_lora()
    # A schema that says nothing of its fields must not open another way.
    listed_version(
        cast.vendor, cast.licence, cast.sam, name="loose",
        input_schema={**SCHEMA, "additionalProperties": True},
    )  # fmt: skip
    assert refused(cast.developer, "atelier/loose", loras=loras) == field


# Uploads


def test_an_upload_of_ones_own_reaches_the_worker(cast, base, api):
    file_id = upload(api)
    job = submit(cast.developer, "atelier/base", file_id)
    message = dispatch.message_for(job)
    assert message.input["loras"] == [{"uri": f"{protocol.UPLOADED}{file_id}", "scale": 1.0}]
    got = Client().get(message.inputs["loras.0"])
    assert b"".join(got.streaming_content) == b"12345678"


def test_anothers_upload_is_refused(cast, base, stranger_api):
    assert refused(cast.developer, "atelier/base", upload(stranger_api)) == "input.loras.0.uri"


# A LoRA that is called itself


def test_a_lora_runs_on_its_base_and_pays_it(cast, base, make_lora, api):
    look = make_lora(org=cast.stranger, name="own-look", royalty=0, kind="commercial")
    file_id = upload(api)
    job = submit(cast.developer, "charlie/own-look", file_id)
    message = dispatch.message_for(job)
    assert message.version.weights_uri == base.weights_uri
    assert message.version.weights_digest == base.weights_digest
    assert [use["uri"] for use in message.input["loras"]] == [look.weights_uri, f"upload:{file_id}"]
    assert list(message.inputs) == ["loras.1"]
    assert [share["org_id"] for share in job.shares] == [
        str(cast.stranger.pk), str(cast.vendor.pk),
    ]  # fmt: skip


def test_a_lora_is_not_offered_once_its_base_is_suspended(cast, base, make_lora):
    make_lora()
    catalog.version_decide(version=base, after=Status.SUSPENDED, by=cast.sam, note="Stolen.")
    with pytest.raises(WrongState):
        submit(cast.developer, "atelier/look")
    assert Version.objects.get(model__name="look").status == Status.LISTED


def test_a_lora_does_not_open_a_base_that_became_private(cast, base, make_lora):
    make_lora(org=cast.stranger)
    make_lora(name="own")
    catalog.model_update(model=base.model, visibility=Visibility.PRIVATE)
    with pytest.raises(WrongState):
        submit(cast.developer, "charlie/look")
    # The vendor of the base may go on selling LoRAs of it.
    submit(cast.developer, "atelier/own")


def test_a_lora_cannot_take_the_licence_of_another(cast, base):
    theirs = open_licence(cast.stranger)
    model = catalog.model_create(org=cast.developer, name="stolen", title="S", task="text-to-image")
    with pytest.raises(InvalidInput):
        catalog.version_create(
            model=model, weights_uri="file:///weights/x", weights_digest=next(DIGESTS),
            family="flux", input_schema=SCHEMA, licence=theirs, base=base, lora=True,
        )  # fmt: skip
