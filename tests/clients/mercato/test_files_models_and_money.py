"""Uploads, files inside inputs, quotes, lists, models and the balance."""

import asyncio
import io
from decimal import Decimal

import pytest

from marketplace.jobs.models import File, Job
from mercato import InvalidInput, NotFound
from tests.cast import PIXEL, SCHEMA, listed_version

FILE = {"type": "string", "format": "file-id"}
FPS = {"type": "integer", "const": 8, "default": 8}
MORE = {"image": FILE, "mask_image": FILE, "fps": FPS}
EDIT = {**SCHEMA, "properties": {**SCHEMA["properties"], **MORE}}
GIVEN = {"prompt": "a red circle"}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(PIXEL)
    return path


@pytest.fixture
def edit(market):
    listed_version(market.vendor, market.licence, market.sam, name="edit", input_schema=EDIT)
    return "atelier/edit"


def stored(market, file):
    row = File.objects.for_org(market.developer).get(pk=file.id)
    from marketplace.core.storage import storage

    return row, b"".join(storage().read(row.key))


def test_a_path_bytes_and_an_open_file_are_uploaded(market, client, picture):
    for given in (picture, str(picture), PIXEL, io.BytesIO(PIXEL)):
        file = client.upload(given)
        row, body = stored(market, file)
        assert body == PIXEL
        assert (row.content_type, file.size) == ("image/png", len(PIXEL))
    with picture.open("rb") as opened:
        assert client.upload(opened).name == "cat.png"
    assert client.upload(PIXEL, name="dog.png").name == "dog.png"


def test_a_file_of_megabytes_arrives_whole(market, client, tmp_path):
    path = tmp_path / "lora.safetensors"
    path.write_bytes(bytes(range(256)) * 4096 * 3)
    row, body = stored(market, client.upload(path))
    assert (body, row.content_type) == (path.read_bytes(), "application/octet-stream")


def test_what_is_too_large_is_not_sent(market, client, settings):
    settings.FILE_MAX_BYTES = 10
    with pytest.raises(InvalidInput) as caught:
        client.upload(PIXEL)
    assert (caught.value.code, list(caught.value.fields)) == ("file_too_large", ["file"])


def test_what_is_no_file(client, tmp_path):
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "absent.png")
    with pytest.raises(TypeError):
        client.upload(7)
    with pytest.raises(TypeError, match="binary"):
        client.upload(io.StringIO("text"))


def test_files_in_an_input_are_uploaded_by_themselves(market, client, edit, picture):
    given = {**GIVEN, "image": picture, "mask_image": io.BytesIO(PIXEL)}
    job = client.submit(edit, given)
    rows = File.objects.for_org(market.developer)
    assert {job.input["image"], job.input["mask_image"]} == {str(row.pk) for row in rows}
    assert given["image"] is picture, "the caller's own input stays as it was"


def test_a_quote_uploads_nothing(market, client, edit, picture):
    quote = client.quote(edit, {**GIVEN, "image": picture, "num_images": 3})
    assert (quote.quote_nano_usd, quote.usd) == (12_000_000, Decimal("0.012"))
    assert quote.input["num_inference_steps"] == 4
    assert File.objects.count() == Job.objects.count() == 0
    assert client.quote(f"{market.ref}:1", GIVEN).model == f"{market.ref}:1"


def test_lists_go_over_pages(market, client):
    ids = [client.submit(market.ref, GIVEN).id for _ in range(5)]
    client.cancel(ids[0])
    assert [job.id for job in client.jobs(page_size=2)] == ids[::-1]
    assert [job.id for job in client.jobs(status="cancelled")] == ids[:1]
    with pytest.raises(InvalidInput):
        list(client.jobs(status="lost"))


def test_the_key_goes_to_the_given_address_only(market, make_client, settings):
    client = make_client()
    for _ in range(3):
        client.submit(market.ref, GIVEN)
    settings.PUBLIC_URL = "http://elsewhere.example"
    assert len(list(client.jobs(page_size=1))) == 3


def test_models_are_found_and_described(market, client, edit):
    assert {model.ref for model in client.models()} == {market.ref, edit}
    assert [model.ref for model in client.models("edit", page_size=1)] == [edit]
    assert list(client.models(task="text-to-video")) == []
    model = client.model(edit)
    assert (model.title, model.task, model.version.number) == ("Edit", "text-to-image", 1)
    kinds = {each.name: (each.type, each.required, each.default) for each in model.inputs}
    assert kinds["prompt"] == ("string", True, None)
    assert kinds["image"] == ("file", False, None)
    assert kinds["num_images"] == ("integer", False, 1)
    assert model.inputs[0].name == "prompt"
    limits = {each.name: each.limits for each in model.inputs}
    assert limits["num_images"] == "1 to 4"
    assert limits["prompt"] == "1 to 200 characters"
    assert limits["fps"] == "always 8"


def test_a_model_of_one_version(market, client):
    assert client.model(f"{market.ref}:1").version.id == str(market.version.pk)
    with pytest.raises(NotFound, match="no version 7"):
        client.model(f"{market.ref}:7")
    with pytest.raises(InvalidInput, match="vendor/name"):
        client.model("sketch")


def test_the_balance_is_exact(market, client):
    client.submit(market.ref, GIVEN)
    balance = client.balance()
    assert balance.available_nano_usd == 996_000_000
    assert balance.available_usd == Decimal("0.996")
    assert balance.held_nano_usd == 4_000_000


def test_outputs_are_read_on_a_loop_too(market, make_client, tmp_path):
    from tests.clients.conftest import working

    with working():
        (made,) = make_client().run(market.ref, GIVEN)
    assert asyncio.run(made.aread()) == PIXEL
    assert asyncio.run(made.asave(tmp_path / "a.png")).read_bytes() == PIXEL
