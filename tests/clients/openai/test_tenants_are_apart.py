"""Lists and uploads are one's own; that no route leads elsewhere, the walk of all doors shows."""

import httpx
import pytest

from marketplace.jobs import services
from tests.cast import listed_version, report_finished
from tests.clients.openai.conftest import film, png


@pytest.fixture
def theirs(market, filmer):
    """What Alice and Bob have and Charlie may not see: an ended clip, a waiting one, pictures."""
    listed_version(market.vendor, market.licence, market.sam, name="secret", visibility="private")
    given = {"prompt": "x"}
    clip, _ = services.job_submit(org=market.developer, ref=filmer, given=given)
    film(clip)
    waiting, _ = services.job_submit(org=market.developer, ref=filmer, given=given)
    picture, _ = services.job_submit(org=market.developer, ref=market.ref, given=given)
    services.job_finished(report_finished(picture))
    return [str(job.pk) for job in (clip, waiting, picture)]


def test_lists_hold_ones_own_only(market, theirs, make_client):
    stranger = make_client(market.stranger_secret)
    assert stranger.videos.list().data == []
    assert [row.id for row in stranger.models.list()] == ["atelier/filmer", "atelier/sketch"]
    answer = httpx.get(
        f"{market.url}/openai/v1/videos?after={theirs[0]}",
        headers={"Authorization": f"Bearer {market.stranger_secret}"},
    )
    assert answer.status_code == 404


def test_their_owner_has_them(market, theirs, make_client):
    client = make_client()
    assert [each.id for each in client.videos.list()] == [theirs[1], theirs[0]]
    assert client.get(f"/images/generations/{theirs[2]}", cast_to=object)["data"]


def test_another_ones_upload_is_no_input(market, make_client, painter):
    from marketplace.jobs import files

    mine = files.upload_store(org=market.vendor, name="x.png", content_type="image/png", body=png())
    answer = httpx.post(
        f"{market.url}/openai/v1/images/edits",
        headers={"Authorization": f"Bearer {market.secret}"},
        json={"model": painter, "prompt": "x", "image": str(mine.pk)},
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "image")
