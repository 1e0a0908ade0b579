"""fal's published client runs the starter model on a real worker, by each way of calling."""

import io

import fal_client
import httpx
import pytest
from PIL import Image

from tests.e2e.world import STARTER, World

GIVEN = {"prompt": "a red circle", "num_inference_steps": 4}


@pytest.fixture
def client(market: World, monkeypatch: pytest.MonkeyPatch) -> fal_client.SyncClient:
    """The client, told of our address, which has no TLS here."""
    base = market.market.url
    monkeypatch.setattr("fal_client.client.RUN_URL_FORMAT", f"{base}/fal/run/")
    monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", f"{base}/fal/queue/")
    realtime = base.replace("http", "ws", 1) + "/fal/run/"
    monkeypatch.setattr("fal_client.client.REALTIME_URL_FORMAT", realtime)
    monkeypatch.setattr("fal_client.client.REST_URL", f"{base}/fal/rest")
    return fal_client.SyncClient(key=market.key)


def test_pictures_come_back(market: World, client: fal_client.SyncClient) -> None:
    ran = client.run(STARTER, GIVEN)
    *steps, streamed = client.stream(STARTER, GIVEN)
    assert steps
    assert steps[-1]["step"] == steps[-1]["steps"]
    with client.realtime(STARTER) as socket:
        socket.send(GIVEN)
        said = socket.recv()
    ids: list[str] = []
    followed = client.subscribe(STARTER, GIVEN, with_logs=True, on_enqueue=ids.append)
    for made in (ran, streamed, said, followed):
        assert made is not None
        shown = made["images"][0]
        picture = Image.open(io.BytesIO(httpx.get(shown["url"]).content))
        assert picture.format == "PNG"
        assert picture.size == (shown["width"], shown["height"])
    status = client.status(STARTER, ids[0], with_logs=True)
    assert isinstance(status, fal_client.Completed)
    assert status.metrics["inference_time"] > 0
    answer = client._client.get(f"{market.market.url}/fal/queue/{STARTER}/requests/{ids[0]}")
    market.assert_charged_once(ids[0], int(answer.headers["x-mercato-charge-nano-usd"]))
