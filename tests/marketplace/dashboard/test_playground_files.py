"""Files in the playground: announced, sent with the form, refused, and nobody else's."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from marketplace.core import valkey
from marketplace.core.storage import storage
from marketplace.dashboard import playground
from marketplace.jobs.models import File, Job
from tests.cast import PIXEL, SCHEMA, listed_version

HTMX = {"HX-Request": "true"}


def the_job(**found):
    return Job.objects.select_related("version__model__org").get(**found)


FILES = {
    **SCHEMA,
    "properties": {
        **SCHEMA["properties"],
        "image": {"type": "string", "format": "file-id"},
        "mask_image": {"type": "string", "format": "file-id"},
    },
}


@pytest.fixture
def painter(cast):
    """A model that changes a given picture."""
    version = listed_version(
        cast.vendor, cast.licence, cast.sam, name="painter", input_schema=FILES
    )
    return f"/models/{version.model.ref}/"


def test_a_picture_is_announced_sent_and_used(bob, painter):
    told = {"name": "a/b.png", "content_type": "image/png", "size": str(len(PIXEL))}
    place = bob.post("/playground/files/", told)
    assert place.status_code == 201
    file = File.objects.get(pk=place.json()["id"])
    storage().write(file.key, [PIXEL], 10_000)
    given = {"nonce": "1", "in-prompt": "a red circle", "in-image": str(file.pk)}
    answer = bob.post(f"{painter}run/", given, headers=HTMX)
    assert "HX-Retarget" not in answer
    assert the_job().input["image"] == str(file.pk)
    assert f'value="{file.pk}"' in bob.get(f"{painter}?from={the_job().pk}").text


@pytest.mark.parametrize(
    ("name", "kept"), [("a\x00b.png", "a b.png"), ("x" * 300, "x" * 200), ("\x00\x01", "upload")]
)
def test_a_files_name_is_made_plain_and_short(bob, cast, name, kept):
    told = {"name": name, "content_type": "image/png", "size": "10"}
    assert bob.post("/playground/files/", told).status_code == 201
    assert File.objects.get().name == kept


@pytest.mark.parametrize(
    "told",
    [
        {"name": "a.svg", "content_type": "image/svg+xml", "size": "10"},
        {"name": "a.png", "content_type": "image/png", "size": "0"},
        {"name": "a.png", "content_type": "image/png", "size": str(2**40)},
        {"name": "a.png", "content_type": "image/png", "size": "-1"},
        {"name": "a.png", "content_type": "image/png"},
    ],
)
def test_a_file_that_is_no_use_is_refused_before_it_is_sent(bob, cast, told):
    answer = bob.post("/playground/files/", told)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert not File.objects.exists()


def test_only_who_may_run_sends_files(dora, visitor, cast):
    told = {"name": "a.png", "content_type": "image/png", "size": "10"}
    assert dora.post("/playground/files/", told).status_code == 403
    assert visitor.post("/playground/files/", told).status_code == 302


def test_without_scripts_a_picture_comes_with_the_form(bob, painter):
    picture = SimpleUploadedFile("me.png", PIXEL, "image/png")
    given = {"nonce": "1", "in-prompt": "a red circle", "in-image-file": picture}
    answer = bob.post(f"{painter}run/", given)
    assert answer["Location"] == f"/dashboard/jobs/{the_job().pk}/"
    file = File.objects.get()
    assert (file.name, file.content_type) == ("me.png", "image/png")
    assert b"".join(storage().read(file.key)) == PIXEL


def test_without_scripts_a_file_that_is_no_picture_is_refused_at_its_field(bob, painter):
    text = SimpleUploadedFile("me.png", b"<svg onload=alert(1)>", "image/png")
    given = {"nonce": "1", "in-prompt": "a red circle", "in-image-file": text}
    answer = bob.post(f"{painter}run/", given)
    assert answer.status_code == 422
    assert b"It must be a PNG, JPEG or WebP picture." in answer.content
    assert not File.objects.exists()


def test_a_form_that_cannot_run_stores_no_file(bob, painter):
    picture = SimpleUploadedFile("me.png", PIXEL, "image/png")
    answer = bob.post(f"{painter}run/", {"nonce": "1", "in-prompt": "", "in-image-file": picture})
    assert answer.status_code == 422
    assert b"choose it again" in answer.content
    text = SimpleUploadedFile("mask.png", b"no picture", "image/png")
    given = {"in-prompt": "a", "in-image-file": picture, "in-mask_image-file": text}
    picture.seek(0)
    assert bob.post(f"{painter}run/", given).status_code == 422
    assert not File.objects.exists()


def test_files_with_the_form_and_announced_ones_fill_one_bucket(bob, painter, monkeypatch):
    valkey.client().flushdb()
    monkeypatch.setattr(playground, "UPLOADS_PER_ORG", (1 / 3600, 2))
    told = {"name": "a.png", "content_type": "image/png", "size": "10"}
    assert bob.post("/playground/files/", told).status_code == 201
    for expected in (302, 422):
        picture = SimpleUploadedFile("me.png", PIXEL, "image/png")
        given = {"nonce": str(expected), "in-prompt": "a", "in-image-file": picture}
        assert bob.post(f"{painter}run/", given).status_code == expected
    assert bob.post("/playground/files/", told).status_code == 429
    assert File.objects.count() == 2


def test_a_file_of_a_stranger_is_neither_shown_nor_used(bob, charlie, cast, painter):
    told = {"name": "mine.png", "content_type": "image/png", "size": "10"}
    file_id = bob.post("/playground/files/", told).json()["id"]
    given = {"nonce": "1", "in-prompt": "a red circle", "in-image": file_id}
    answer = charlie.post(f"{painter}run/", given, headers=HTMX)
    assert b"There is no such file." in answer.content
    assert b"mine.png" not in answer.content
