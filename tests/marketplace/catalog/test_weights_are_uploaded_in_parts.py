"""Uploads of weights: taken up after a break, joined, digested as workers do, safetensors only."""

import json
import struct
from datetime import timedelta

import pytest
from django.test import Client

from marketplace.accounts.models import Organisation
from marketplace.catalog import listing, upload_sweep, uploads, weights
from marketplace.catalog.listing_models import UploadState, WeightsUpload
from marketplace.catalog.models import Model
from marketplace.catalog.services import model_create
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.storage import storage
from tests.marketplace.dashboard.conftest import plain_static_files

__all__ = ["plain_static_files"]
pytestmark = pytest.mark.django_db
INDEX = b'{"_class_name": "FluxPipeline"}'


def tensors(count=5):
    header = {"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + bytes(4 * count)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(uploads, "PART_BYTES", 32)


@pytest.fixture
def model(cast):
    return Model.objects.get(name="sketch")


def begin(cast, model, files, *, lora=False):
    listed = [{"path": path, "size": len(content)} for path, content in files.items()]
    return uploads.upload_begin(org=cast.vendor, model=model, files=listed, lora=lora)


def send(upload, files, *, most=None):
    """PUT what is missing where the plan says, as the page's script does; stop after `most`."""
    sent = 0
    for file in uploads.upload_parts(upload):
        start = 0
        for part in file["parts"]:
            content = files[file["path"]][start : start + part["size"]]
            start += part["size"]
            if part["have"] or (most is not None and sent >= most):
                continue
            path = part["url"].partition("//")[2].partition("/")[2]
            kind = part["headers"]["Content-Type"]
            answer = Client().put(f"/{path}", content, content_type=kind)
            assert answer.status_code == 201, answer.content
            sent += 1
    return sent


def check(upload):
    WeightsUpload.objects.filter(pk=upload.pk).update(state=UploadState.CHECKING)
    uploads.upload_check(upload.pk)
    upload.refresh_from_db()
    return upload


def files():
    return {"model_index.json": INDEX, "transformer/model.safetensors": tensors()}


def test_an_upload_goes_on_where_it_stopped(cast, model, small_parts):
    upload = begin(cast, model, files())
    assert send(upload, files(), most=2) == 2
    again = begin(cast, model, files())
    assert again == upload
    with pytest.raises(WrongState):
        uploads.upload_finish(upload=upload)
    total = sum(len(uploads.part_sizes(file["size"])) for file in upload.files)
    assert send(again, files()) == total - 2
    assert uploads.upload_finish(upload=upload).state == UploadState.CHECKING


def test_the_digest_is_the_one_that_workers_work_out(cast, model, small_parts, tmp_path):
    from inference.engine.weights import digest_of

    for path, content in files().items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    upload = begin(cast, model, files())
    send(upload, files())
    check(upload)
    assert (upload.state, upload.problem) == ("ready", "")
    assert upload.digest == digest_of(tmp_path)
    found = b"".join(storage().read(f"{upload.prefix}/transformer/model.safetensors"))
    assert found == tensors()
    assert storage().size(f"{upload.prefix}.parts/0/0") is None  # parts are not kept


def test_a_lora_is_one_file_with_its_own_digest(cast, model):
    import hashlib

    upload = begin(cast, model, {"night.safetensors": tensors()}, lora=True)
    send(upload, {"night.safetensors": tensors()})
    check(upload)
    assert upload.digest == "sha256:" + hashlib.sha256(tensors()).hexdigest()
    assert uploads.upload_uri(upload).endswith("/night.safetensors")


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("transformer/x.safetensors", b"\x80\x04pickle, whatever its name", "no safetensors file"),
        ("transformer/x.safetensors", tensors() + b"more", "do not fill it"),
        (
            "x.safetensors",
            struct.pack("<Q", 35) + b'{"w":{"data_offsets":[0,Infinity]}}',
            "cannot be read",
        ),
        ("config.json", b"{not json", "not readable as JSON"),
        ("text_encoder/config.json", b'{"auto_map": {"AutoModel": "x.Y"}}', "names code to run"),
    ],
)
def test_what_is_no_plain_safetensors_is_refused_and_forgotten(cast, model, path, content, said):
    bad = {"model_index.json": INDEX, path: content}
    upload = begin(cast, model, bad)
    send(upload, bad)
    check(upload)
    assert upload.state == UploadState.REFUSED
    assert said in upload.problem
    assert storage().size(f"{upload.prefix}/{path}") is None


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["model_index.json", "weights.bin"], "pickles and code never"),
        (["model_index.json", "run.py"], "pickles and code never"),
        (["model_index.json", "../up.json"], "no plain path"),
        (["transformer/model.safetensors"], "no model_index.json"),
        ([], "Send 1 to"),
    ],
)
def test_files_that_are_not_taken_are_refused_before_they_are_sent(cast, model, paths, said):
    with pytest.raises(InvalidInput, match=said):
        begin(cast, model, dict.fromkeys(paths, b"x"))


def test_an_upload_is_bounded(cast, model, settings):
    settings.WEIGHTS_UPLOAD_MAX_BYTES = 10
    with pytest.raises(InvalidInput, match="more than 10 bytes"):
        begin(cast, model, files())


def test_an_upload_becomes_the_weights_of_its_vendor_alone(cast, model):
    upload = begin(cast, model, files())
    send(upload, files())
    uri = uploads.upload_uri(upload)
    with pytest.raises(InvalidInput):
        weights.check_uri(cast.vendor, uri)  # not checked yet
    check(upload)
    draft = listing.listing_of(org=cast.vendor, name="sketch")
    draft.version = None
    uploads.upload_use(draft=draft, upload=upload)
    assert draft.weights == {"uri": uri, "digest": upload.digest, "lora": False}
    stranger = Organisation.objects.get(slug="charlie")
    for address in (uri, uri.replace("/weights/", "//weights/"), f"{uri}/."):
        with pytest.raises(InvalidInput):
            weights.check_uri(stranger, address)


def test_another_vendor_reaches_no_upload(cast, model):
    upload = begin(cast, model, files())
    client = Client()
    client.force_login(cast.charlie)
    for step in ("begin", "finish", "use", "drop"):
        answer = client.post(f"/vendor/models/sketch/listing/upload/{step}/", "{}", "text/json")
        assert answer.status_code == 404, step
    assert WeightsUpload.objects.get() == upload


def test_other_files_begin_another_upload(cast, model):
    first = begin(cast, model, files())
    second = begin(cast, model, {**files(), "extra.json": b"{}"})
    assert uploads.newest(model) == second
    first.refresh_from_db()
    assert first.state == UploadState.DROPPED


def age(upload, **by):
    WeightsUpload.objects.filter(pk=upload.pk).update(created_at=now() - timedelta(**by))


def test_a_check_that_runs_is_not_begun_again(cast, model, monkeypatch):
    upload = begin(cast, model, files())
    send(upload, files())
    seen = []
    once = uploads._file_digest

    def again(upload, index):
        seen.append(index)
        uploads.upload_check(upload.pk)  # the message comes a second time meanwhile
        return once(upload, index)

    monkeypatch.setattr(uploads, "_file_digest", again)
    check(upload)
    assert (upload.state, seen) == ("ready", [0, 1])


def test_a_check_that_was_lost_is_taken_up_when_its_lease_ends(cast, model):
    upload = begin(cast, model, files())
    send(upload, files())
    rows = WeightsUpload.objects.filter(pk=upload.pk)
    rows.update(state="checking", lease_ends_at=now() + timedelta(minutes=5))
    assert not upload_sweep.check_next()
    rows.update(lease_ends_at=now() - timedelta(seconds=1))
    assert upload_sweep.check_next()
    upload.refresh_from_db()
    assert upload.state == "ready"


def test_json_is_short_but_for_the_tables_of_tokenizers(cast, model):
    long = bytes(uploads.MAX_JSON_BYTES + 1)
    with pytest.raises(InvalidInput, match="json has more than 1048576 bytes"):
        begin(cast, model, {**files(), "config.json": long})
    begin(cast, model, {**files(), "tokenizer/vocab.json": long})


def test_a_vendor_keeps_so_many_bytes(cast, model, settings):
    settings.WEIGHTS_KEEP_MAX_BYTES = 200
    begin(cast, model, files())
    begin(cast, model, {**files(), "a.json": b"{}"})  # instead of the first
    other = model_create(org=cast.vendor, name="more", title="More", task="text-to-image")
    with pytest.raises(InvalidInput, match="You may keep 200 bytes"):
        begin(cast, other, files())


def test_what_nobody_finishes_or_uses_goes(cast, model):
    opened = begin(cast, model, files())
    send(opened, files(), most=1)
    age(opened, hours=25)
    upload_sweep.expire()
    opened.refresh_from_db()
    assert opened.state == "dropped"
    send(opened, files(), most=1)  # by a link of before
    age(opened, hours=31)
    upload_sweep.expire()
    assert not WeightsUpload.objects.filter(pk=opened.pk).exists()
    assert storage().size(f"{opened.prefix}.parts/0/0") is None


def test_checked_weights_stay_while_a_listing_names_them(cast, model):
    upload = begin(cast, model, files())
    send(upload, files())
    check(upload)
    draft = listing.listing_of(org=cast.vendor, name="sketch")
    draft.version = None
    uploads.upload_use(draft=draft, upload=upload)
    age(upload, days=31)
    upload_sweep.expire()
    upload.refresh_from_db()
    assert upload.state == "ready"
    listing.weights_set(draft=draft, uri="hub://a/b", digest="sha256:" + "b" * 64)
    upload_sweep.expire()
    upload.refresh_from_db()
    assert upload.state == "dropped"
    assert storage().size(f"{upload.prefix}/model_index.json") is None
