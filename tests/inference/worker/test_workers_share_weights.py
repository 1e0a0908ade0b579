"""Workers that serve their weights find each other by their heartbeats, and their jobs say so."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from inference.engine.weights import Model, WeightsStore, digest_of
from inference.engine.weights.settings import WeightsSettings
from inference.protocol import WORKERS_KEY, Heartbeat, JobFinished, RunJob, worker_key
from inference.worker import peers
from tests.inference.control import Control
from tests.inference.engine.weights.hub import HubServer
from tests.inference.engine.weights.models import write_model
from tests.inference.process import WorkerProcess
from tests.inference.valkey import free_port

TOKEN = "a-token-of-the-peers"
WHO = "a-worker"


@pytest.fixture(scope="module")
def hub(tiny_flux: Path) -> Iterator[HubServer]:
    """The tiny pipeline, as the repository acme/tiny."""
    with HubServer(tiny_flux) as server:
        yield server


@pytest.fixture
def model(tiny_flux: Path) -> Model:
    return Model(uri="hub://acme/tiny", digest=digest_of(tiny_flux), family="flux")


def _env(hub: HubServer, cache: Path, **more: str) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "WEIGHTS_CACHE_DIR": str(cache),
        "WEIGHTS_PEERS": "auto",
        "WEIGHTS_PEER_TOKEN": TOKEN,
        **more,
    }


def _logged(control: Control, job: RunJob) -> list[str]:
    return [data["message"] for kind, data in control.events(job) if kind == "log"]


def _send(control: Control, model: Model, hardware_class: str) -> RunJob:
    """Send a job that has time to wait for libraries and weights on a busy machine."""
    job = control.job(model, hardware_class=hardware_class, deadline=time.time() + 180)
    return control.send(job)


def _finished(control: Control, job: RunJob) -> JobFinished:
    end = control.end(job, timeout=180)
    assert isinstance(end, JobFinished), end
    return end


@pytest.mark.timeout(400)
def test_a_worker_takes_weights_from_another_and_says_so(
    control: Control,
    start_worker: Callable[..., WorkerProcess],
    hub: HubServer,
    model: Model,
    tmp_path: Path,
) -> None:
    port = str(free_port())
    first = start_worker("first", **_env(hub, tmp_path / "1", WEIGHTS_SERVE_PORT=port))
    job = _send(control, model, "first")
    timings = _finished(control, job).timings_ms
    assert any(line.startswith("weights fetched from hub in ") for line in _logged(control, job))
    assert 0 < timings["fetch"] <= timings["load"]
    beat = json.loads(str(control.valkey.get(worker_key(first.worker_id))))
    assert beat["weights_url"] == f"http://127.0.0.1:{port}"

    hub.given.clear()
    start_worker("second", **_env(hub, tmp_path / "2"))
    job = _send(control, model, "second")
    _finished(control, job)
    assert any(line.startswith("weights fetched from peer in ") for line in _logged(control, job))
    assert hub.given == []
    again = _send(control, model, "second")
    assert "fetch" not in _finished(control, again).timings_ms
    assert _logged(control, again) == []

    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    assert "weights are no longer served" in first.log()


def test_a_worker_serves_nothing_unless_told_to(control: Control, worker: WorkerProcess) -> None:
    beat = json.loads(str(control.valkey.get(worker_key(worker.worker_id))))
    assert (beat["weights_url"], beat["weights_proof"]) == ("", "")
    assert worker.log().count("WEIGHTS_SERVE_PORT is not set") == 1


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"WEIGHTS_SERVE_HOST": "0.0.0.0"}, "WEIGHTS_ADVERTISE_URL is needed"),
        ({"WEIGHTS_PEER_TOKEN": ""}, "needs WEIGHTS_PEER_TOKEN"),
    ],
)
def test_a_worker_that_cannot_serve_does_not_start(
    start_worker: Callable[..., WorkerProcess], env: dict[str, str], said: str
) -> None:
    serving = {"WEIGHTS_SERVE_PORT": str(free_port()), "WEIGHTS_PEER_TOKEN": TOKEN}
    with pytest.raises(RuntimeError, match=f"worker: .*{said}"):
        start_worker("unable", **{**serving, **env})


def test_a_taken_port_is_named(start_worker: Callable[..., WorkerProcess], hub: HubServer) -> None:
    taken = str(hub.server_address[1])
    with pytest.raises(RuntimeError, match=f"weights cannot be served at 127.0.0.1:{taken}"):
        start_worker("taken", WEIGHTS_SERVE_PORT=taken, WEIGHTS_PEER_TOKEN=TOKEN)


# Two stores that know each other by Valkey alone


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(valkey_url)
    yield client
    client.delete(worker_key(WHO))
    client.srem(WORKERS_KEY, WHO)
    client.close()


def _announce(client: redis.Redis, url: str, proof: str) -> None:
    now = time.time()
    beat = Heartbeat(
        worker_id=WHO,
        hostname="h",
        device="cpu",
        device_name="cpu",
        memory_bytes=1,
        classes=["small"],
        slots=1,
        weights_url=url,
        weights_proof=proof,
        started_at=now,
        at=now,
    )
    client.set(worker_key(WHO), json.dumps(beat.to_dict()), px=60_000)
    client.sadd(WORKERS_KEY, WHO)


@pytest.fixture
def serving(tmp_path: Path, valkey: redis.Redis) -> Iterator[tuple[peers.PeerService, HubServer]]:
    """A worker's store that has the model and serves it, and the hub that it came from."""
    source = write_model(tmp_path / "source", 10)
    with HubServer(source) as hub:
        settings = peers.own_settings(
            WeightsSettings(
                cache_dir=tmp_path / "serving",
                hub_endpoint=hub.url,
                serve_port=free_port(),
                peer_token=TOKEN,
            )
        )
        WeightsStore(settings=settings).open(
            Model(uri="hub://acme/tiny", digest=digest_of(source), family="flux")
        )
        hub.given.clear()
        service = peers.start(settings, WHO)
        yield service, hub
        service.close()


def _asking(tmp_path: Path, hub: HubServer, valkey: redis.Redis, who: str) -> WeightsStore:
    settings = WeightsSettings(
        cache_dir=tmp_path / who, hub_endpoint=hub.url, discover_peers=True, peer_token=TOKEN
    )
    return WeightsStore(settings=settings, discover=peers.Discovery(valkey, who, TOKEN))


def test_a_store_finds_a_peer_that_proves_itself(
    serving: tuple[peers.PeerService, HubServer], valkey: redis.Redis, tmp_path: Path
) -> None:
    service, hub = serving
    model = Model(uri="hub://acme/tiny", digest=digest_of(tmp_path / "source"), family="flux")
    _announce(valkey, service.url, service.proof)
    _asking(tmp_path, hub, valkey, "other").open(model)
    assert hub.given == []


@pytest.mark.parametrize("forge", ["", "0" * 64, "of another address", "é"])
def test_an_address_without_proof_is_not_told_the_token(
    serving: tuple[peers.PeerService, HubServer], valkey: redis.Redis, tmp_path: Path, forge: str
) -> None:
    service, hub = serving
    model = Model(uri="hub://acme/tiny", digest=digest_of(tmp_path / "source"), family="flux")
    if forge == "of another address":
        forge = peers.proof(TOKEN, WHO, "http://127.0.0.1:1")
    _announce(valkey, service.url, forge)
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    _asking(tmp_path, hub, valkey, "other").open(model)
    assert hub.given != []


def test_a_worker_does_not_ask_itself(valkey: redis.Redis) -> None:
    url = "http://127.0.0.1:1"
    _announce(valkey, url, peers.proof(TOKEN, WHO, url))
    assert peers.Discovery(valkey, WHO, TOKEN)() == []
    assert peers.Discovery(valkey, "other", TOKEN)() == [url]


@pytest.mark.parametrize(
    "bad",
    [
        b"[" * 100_000,
        b"\xff",
        b"null",
        b'{"weights_url": "\\ud800"}',
        b'{"weights_proof": "\\ud800"}',
        b'{"worker_id": "\\ud800"}',
    ],
    ids=["nested", "bytes", "null", "url", "proof", "id"],
)
def test_one_bad_heartbeat_hides_no_other(valkey: redis.Redis, bad: bytes) -> None:
    url = "http://127.0.0.1:1"
    _announce(valkey, url, peers.proof(TOKEN, WHO, url))
    good = valkey.get(worker_key(WHO))
    assert isinstance(good, bytes)
    if bad.startswith(b"{"):
        bad = json.dumps({**json.loads(good), **json.loads(bad)}).encode()
    valkey.set(worker_key("bad"), bad, px=60_000)
    valkey.sadd(WORKERS_KEY, "bad", b"\xff")
    found = peers.Discovery(valkey, "other", TOKEN)()
    valkey.srem(WORKERS_KEY, "bad", b"\xff")
    assert found == [url]


def test_the_token_is_in_no_repr(valkey: redis.Redis) -> None:
    assert TOKEN not in repr(peers.Discovery(valkey, "other", TOKEN))


def test_without_valkey_there_are_no_peers() -> None:
    gone = redis.Redis.from_url(f"redis://127.0.0.1:{free_port()}/0")
    assert peers.Discovery(gone, "other", TOKEN)() == []
