"""An uploaded file reaches the worker as a signed URL, and only its owner can use it."""

import pytest
from django.test import Client

from marketplace.catalog import services as catalog
from marketplace.core.errors import InvalidInput
from marketplace.core.storage import storage
from marketplace.jobs import dispatch, services
from marketplace.jobs.models import File, Job
from tests.cast import SCHEMA, listed_version

WITH_IMAGE = {
    **SCHEMA,
    "properties": {**SCHEMA["properties"], "image": {"type": "string", "format": "file-id"}},
}


@pytest.fixture
def ref(cast):
    version = listed_version(cast.vendor, cast.licence, cast.sam, name="edit")
    made = catalog.version_create(
        model=version.model,
        weights_uri=version.weights_uri,
        weights_digest=version.weights_digest,
        family="flux",
        input_schema=WITH_IMAGE,
        licence=cast.licence,
    )
    from decimal import Decimal

    catalog.price_set(version=made, unit="image", unit_price=Decimal("0.01"))
    made = catalog.version_submit(version=made)
    catalog.version_decide(version=made, after="listed", by=cast.sam)
    return version.model.ref


def upload(api, body=b"\x89PNG input"):
    made = api.post(
        "/v1/files", {"name": "in.png", "content_type": "image/png"}, format="json"
    ).json()
    put = made["upload"]
    answer = Client().put(put["url"], body, content_type=put["headers"]["Content-Type"])
    assert answer.status_code == 201
    return made["id"]


def submit(cast, ref, file_id):
    return services.job_submit(
        org=cast.developer, ref=ref, given={"prompt": "x", "image": file_id}
    )[0]


def test_the_worker_gets_a_url_that_reads_the_upload(cast, api, ref):
    job = submit(cast, ref, upload(api))
    message = dispatch.message_for(job)
    assert "image" not in message.input
    got = Client().get(message.inputs["image"])
    assert b"".join(got.streaming_content) == b"\x89PNG input"


def test_a_file_that_was_not_sent_yet_is_refused(cast, api, ref):
    made = api.post(
        "/v1/files", {"name": "in.png", "content_type": "image/png"}, format="json"
    ).json()
    with pytest.raises(InvalidInput) as refusal:
        submit(cast, ref, made["id"])
    assert refusal.value.fields == {"input.image": ["The file was not uploaded yet."]}


def test_a_file_that_is_too_large_is_refused_and_deleted(cast, api, ref, settings):
    file_id = upload(api)
    settings.FILE_MAX_BYTES = 9
    with pytest.raises(InvalidInput, match="more than 9 bytes"):
        submit(cast, ref, file_id)
    file = File.objects.get(pk=file_id)
    assert file.deleted_at is not None
    assert storage().size(file.key) is None


def test_another_organisations_file_is_not_found(cast, stranger_api, ref):
    with pytest.raises(InvalidInput) as refusal:
        submit(cast, ref, upload(stranger_api))
    assert refusal.value.fields == {"input.image": ["There is no such file."]}
    assert Job.objects.count() == 0


def test_a_file_is_its_owners(cast, api, stranger_api):
    file_id = upload(api)
    assert api.get(f"/v1/files/{file_id}").json()["size"] == 10
    assert stranger_api.get(f"/v1/files/{file_id}").status_code == 404
