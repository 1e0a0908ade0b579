"""A file that the store does not give is an error, and not a success whose body breaks off."""

import openai
import pytest

from marketplace.core.storage import storage
from marketplace.jobs.models import File, Job
from tests.cast import PIXEL
from tests.clients.conftest import succeed, working
from tests.clients.openai.conftest import film

PICTURES, CLIP = "/images/generations", "/videos/sync"
KEY = {"headers": {"Idempotency-Key": "once"}}


@pytest.fixture(params=[PICTURES, CLIP])
def way(request, market, filmer):
    """A route whose answer has a file in it, what to send there, and what a worker does."""
    ref, does = (filmer, film) if request.param == CLIP else (market.ref, succeed)
    return request.param, {"model": ref, "prompt": "a lighthouse"}, does


def call(client, way, **options):
    path, body, _ = way
    answer = openai.HttpxBinaryResponseContent
    return client.post(path, cast_to=answer, body=body, options=options).read()


def refused(client, way, kind):
    client.sent.clear()
    with pytest.raises(kind) as caught:
        call(client, way, **KEY)
    assert len(client.sent) == 1
    return caught.value


def test_what_was_deleted_is_not_found(market, client, way):
    with working(way[2]):
        assert call(client, way, **KEY)
    File.objects.update(deleted_at=Job.objects.get().finished_at)
    storage().delete(File.objects.get().key)
    assert "deleted" in refused(client, way, openai.NotFoundError).message


def test_what_the_store_has_lost_is_not_found(market, client, way):
    with working(way[2]):
        assert call(client, way, **KEY)
    storage().delete(File.objects.get().key)
    refused(client, way, openai.NotFoundError)


def test_while_the_store_is_away_the_answer_says_where_to_ask(market, client, way, monkeypatch):
    def broken(*_, **__):
        raise OSError("the store is away")

    with monkeypatch.context() as patch, working(way[2]):
        patch.setattr(type(storage()), "read", broken)
        error = refused(client, way, openai.InternalServerError)
    job = Job.objects.get()
    assert (error.status_code, error.body["id"]) == (504, str(job.pk))
    assert call(client, way, **KEY)
    if way[0] == CLIP:
        assert client.videos.download_content(str(job.pk)).read() == PIXEL
