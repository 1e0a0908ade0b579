"""Files, lists, models, search, collections, hardware, the account: as the client reads them."""

import io

import httpx
import pytest
from replicate.exceptions import ReplicateError
from replicate.pagination import paginate

from marketplace.jobs import services
from tests.cast import listed_version


def test_a_file_is_kept_listed_downloaded_and_deleted(market, client):
    made = client.files.create(
        io.BytesIO(b"weights"), filename="a b.bin", metadata={"of": "a test"}
    )
    assert (made.name, made.size, made.metadata) == ("a b.bin", 7, {"of": "a test"})
    assert made.content_type == "application/octet-stream"
    assert client.files.get(made.id).checksums == made.checksums
    assert [file.id for file in client.files.list()] == [made.id]
    got = client._client.get(f"/v1/files/{made.id}/download", follow_redirects=True)
    assert got.content == b"weights"
    assert client.files.delete(made.id)
    with pytest.raises(ReplicateError) as caught:
        client.files.get(made.id)
    assert caught.value.status == 404


def test_a_file_may_be_larger_than_other_bodies(market, client, settings):
    body = b"x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1000)
    assert client.files.create(io.BytesIO(body)).size == len(body)


def test_a_large_body_without_a_key_is_refused_unread(market, make_client):
    with pytest.raises(ReplicateError) as caught:
        make_client("nonsense").files.create(io.BytesIO(b"x"))
    assert caught.value.status == 401


def test_a_form_without_a_file(market, client):
    answer = client._client.post("/v1/files", data={"metadata": "{}"}, files={"other": b"x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "content")


def test_lists_go_on_by_an_absolute_address(market, client, monkeypatch):
    from marketplace.api.pagination import CursorPagination

    monkeypatch.setattr(CursorPagination, "page_size", 2)
    for _ in range(5):
        services.job_submit(org=market.developer, ref=market.ref, given={"prompt": "x"})
    first = client.predictions.list()
    assert first.next.startswith(f"{market.url}/replicate/v1/predictions?cursor=")
    pages = list(paginate(client.predictions.list))
    assert [len(page.results) for page in pages] == [2, 2, 1]
    assert len({row.id for page in pages for row in page}) == 5


def test_models_and_versions(market, client):
    model = client.models.get(market.ref)
    assert (model.owner, model.name, model.visibility) == ("atelier", "sketch", "public")
    schema = model.latest_version.openapi_schema["components"]["schemas"]
    assert schema["Input"]["required"] == ["prompt"]
    assert schema["Output"]["type"] == "array"
    assert model.latest_version.id == str(market.version.pk)
    assert [row.id for row in model.versions.list()] == [str(market.version.pk)]
    assert model.versions.get(str(market.version.pk)).id == str(market.version.pk)
    assert [row.name for row in client.models.list()] == ["sketch"]


def test_one_output_where_there_can_be_no_more(market, client):
    from tests.clients.conftest import working

    schema = {"type": "object", "properties": {"prompt": {"type": "string"}}}
    made = listed_version(
        market.vendor, market.licence, market.sam, name="single", input_schema=schema
    )
    with working():
        found = client.run(made.model.ref, input={"prompt": "x"})
    assert httpx.get(found).status_code == 200


@pytest.mark.parametrize("body", ["sketch", '"sketch"'])
def test_search(market, client, body):
    listed_version(market.vendor, market.licence, market.sam, name="painter")
    if body == "sketch":
        found = [row.name for row in client.models.search(body)]
    else:  # as the client for Node sends it
        answer = client._client.request("QUERY", "/v1/models", content=body)
        found = [row["name"] for row in answer.json()["results"]]
    assert found == ["sketch"]


def test_collections_hardware_and_the_account(market, client):
    slugs = [row.slug for row in client.collections.list()]
    assert "text-to-image" in slugs
    assert [row.name for row in client.collections.get("text-to-image")] == ["sketch"]
    assert [row.sku for row in client.hardware.list()] == ["small"]
    assert client.accounts.current().username == "builders"
    assert client.deployments.list().results == []


def test_everybody_may_read_the_catalogue(market):
    base = f"{market.url}/replicate/v1"
    assert httpx.get(f"{base}/models/{market.ref}").status_code == 200
    assert httpx.get(f"{base}/predictions").status_code == 401
