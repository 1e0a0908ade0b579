"""Peers serve what they have, and one that lies, stalls or cuts short is dropped for the next."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from inference.engine.weights import Model, WeightsStore, digest_of
from inference.engine.weights.eviction import evict_model
from inference.engine.weights.peers import Peer, Peers
from inference.engine.weights.server import PeerServer
from inference.engine.weights.sources import RemoteFile, SourceError
from tests.inference.engine.weights.bad_peer import WAYS, BadPeer
from tests.inference.engine.weights.conftest import WEIGHTS, Bucket
from tests.inference.engine.weights.hub import HubServer
from tests.inference.engine.weights.models import write_model

MakeStore = Callable[..., WeightsStore]
TOKEN = "a-token-of-the-peers"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two chunks, the smallest that peers can share."""
    return write_model(tmp_path_factory.mktemp("peers"), 10)


@pytest.fixture(scope="session")
def digest(source: Path) -> str:
    return digest_of(source)


@contextmanager
def _serving(store: WeightsStore, connections: int = 16) -> Iterator[PeerServer]:
    address = ("127.0.0.1", 0)
    server = PeerServer(store.cache, address, token=TOKEN, connections=connections)
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def peer(hub: HubServer, hub_model: Model, make_store: MakeStore) -> Iterator[PeerServer]:
    """A worker that has the model; the hub forgets what it gave."""
    store = make_store("peer", hub_endpoint=hub.url)
    store.open(hub_model)
    hub.given.clear()
    with _serving(store) as server:
        yield server


def _evict(store: WeightsStore, model: Model) -> None:
    store.release(model)
    assert model.digest is not None
    assert evict_model(store.cache, model.digest.removeprefix("sha256:"))


def test_a_model_that_a_peer_has_is_not_fetched_from_its_origin(
    peer: PeerServer, hub: HubServer, hub_model: Model, make_store: MakeStore
) -> None:
    store = make_store(hub_endpoint=hub.url, peers=(peer.url,), peer_token=TOKEN)
    opened = store.open_with_report(hub_model)
    assert opened.directory is not None
    assert digest_of(opened.directory) == hub_model.digest
    assert hub.given == []
    assert [row.source for row in opened.report.sources] == [f"peer {urlsplit(peer.url).netloc}"]


def test_two_peers_share_the_work(
    peer: PeerServer, hub: HubServer, hub_model: Model, make_store: MakeStore
) -> None:
    second = make_store("second", hub_endpoint=hub.url, peers=(peer.url,), peer_token=TOKEN)
    second.open(hub_model)
    with _serving(second) as other:
        store = make_store(hub_endpoint=hub.url, peers=(peer.url, other.url), peer_token=TOKEN)
        rows = store.open_with_report(hub_model).report.sources
    assert len(rows) == 2
    assert all(row.bytes > 2**20 for row in rows)


@pytest.mark.parametrize("way", WAYS)
def test_a_bad_peer_is_dropped_and_a_good_one_serves(
    way: str, peer: PeerServer, hub: HubServer, hub_model: Model, make_store: MakeStore
) -> None:
    with BadPeer(hub.directory, way) as bad:
        store = make_store(hub_endpoint=hub.url, peers=(bad.url, peer.url), peer_token=TOKEN)
        directory = store.open(hub_model)
        assert directory is not None
        assert digest_of(directory) == hub_model.digest
        assert hub.bytes_of(WEIGHTS) == 0
        _evict(store, hub_model)
        asked = len(bad.asked)
        assert asked > 0
        assert "/elsewhere" not in [path for path, _ in bad.asked]
        store.open(hub_model)
        assert len(bad.asked) == asked, "it is left alone for a while"


@pytest.mark.parametrize("way", [way for way in WAYS if way != "silent"])
def test_where_every_peer_is_bad_the_origin_serves(
    way: str, hub: HubServer, hub_model: Model, make_store: MakeStore
) -> None:
    with BadPeer(hub.directory, way) as bad:
        store = make_store(hub_endpoint=hub.url, peers=(bad.url,), peer_token=TOKEN)
        directory = store.open(hub_model)
    assert directory is not None
    assert digest_of(directory) == hub_model.digest
    assert hub.bytes_of(WEIGHTS) == (hub.directory / WEIGHTS).stat().st_size


def test_a_bad_peer_falls_back_to_s3_too(
    bucket: Bucket, hub: HubServer, digest: str, make_store: MakeStore
) -> None:
    model = Model(uri=bucket.upload(hub.directory, "peers"), digest=digest, family="flux")
    with BadPeer(hub.directory, "truncates") as bad:
        store = make_store(**bucket.settings, peers=(bad.url,), peer_token=TOKEN)
        rows = store.open_with_report(model).report.sources
    assert {row.source for row in rows} >= {"s3://weights"}


def test_a_peer_that_lacks_it_or_is_down_costs_nothing_but_the_question(
    hub: HubServer, hub_model: Model, make_store: MakeStore
) -> None:
    with _serving(make_store("empty", hub_endpoint=hub.url)) as empty:
        gone = PeerServer(make_store("gone").cache, ("127.0.0.1", 0), token=TOKEN)
        gone.server_close()
        peers = Peers(lambda: (empty.url, gone.url), TOKEN)
        hexdigest = str(hub_model.digest).removeprefix("sha256:")
        assert peers.holding(hexdigest) == []
        assert peers.trusts(Peer(empty.url)), "to lack a model is no fault"
        assert not peers.trusts(Peer(gone.url))


def test_a_peer_that_drips_is_cut_off_though_every_read_gets_a_byte(hub: HubServer) -> None:
    with BadPeer(hub.directory, "drips") as bad:
        listed = next(file for file in bad.manifest.files if file.path == WEIGHTS)
        file = RemoteFile(path=WEIGHTS, size=listed.size, sha256=listed.sha256)
        began = time.monotonic()
        with pytest.raises(SourceError, match="too slow"):
            Peer(bad.url, TOKEN, grace_s=0.3, min_bytes_per_s=2**30).read(file, 0, 2**20)
        assert time.monotonic() - began < 2


def test_the_origin_is_asked_with_its_own_token_and_peers_with_theirs(
    hub: HubServer, hub_model: Model, make_store: MakeStore
) -> None:
    with BadPeer(hub.directory, "none: it behaves") as other:
        settings = {"hub_token": "hf_secret", "peers": (other.url,), "peer_token": TOKEN}
        make_store(hub_endpoint=hub.url, **settings).open(hub_model)
        assert {token for _, token in other.asked} == {f"Bearer {TOKEN}"}


def test_an_address_announced_wrongly_is_passed_over(
    peer: PeerServer, hub: HubServer, hub_model: Model, make_store: MakeStore
) -> None:
    wrong = ["http://[::1", "ftp://x", "http://h:99999", "http://u:p@127.0.0.1:1", "", "auto"]
    peers = Peers(lambda: [*wrong, peer.url], TOKEN)
    ((found, _),) = peers.holding(str(hub_model.digest).removeprefix("sha256:"))
    assert found.base == peer.url


def _get(server: PeerServer, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=5)  # type: ignore[arg-type]
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_the_token_a_peer_gives_nothing(peer: PeerServer, hub_model: Model) -> None:
    path = f"/weights/{str(hub_model.digest).removeprefix('sha256:')}/manifest.json"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        assert _get(peer, path, **headers) == (401, b"")
    assert _get(peer, path, Authorization=f"Bearer {TOKEN}")[0] == 200
    assert _get(peer, path, Authorization="Bearer \xe9")[0] == 401


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/weights/blobs/{blob}", "bytes=0-9", 206),
        ("/weights/blobs/{blob}", "bytes=-5", 416),
        ("/weights/blobs/{blob}", "bytes=9-0", 416),
        ("/weights/blobs/{blob}", "bytes=99999999999-", 416),
        ("/weights/blobs/{blob}", "bytes=0-1,3-4", 416),
        ("/weights/blobs/../../manifests/{model}.json", "bytes=0-9", 404),
        ("/weights/blobs/%2e%2e", "bytes=0-9", 404),
        ("/weights/blobs/" + "0" * 64, "bytes=0-9", 404),
        ("/etc/passwd", "bytes=0-9", 404),
        ("/", "bytes=0-9", 404),
    ],
)
def test_a_peer_answers_two_paths_and_single_ranges_only(
    peer: PeerServer, hub_model: Model, path: str, asked: str, status: int
) -> None:
    model = str(hub_model.digest).removeprefix("sha256:")
    manifest = peer.cache.manifest(model)
    assert manifest is not None
    blob = next(file for file in manifest.files if file.path == WEIGHTS)
    path = path.format(blob=blob.sha256, model=model)
    got, body = _get(peer, path, Authorization=f"Bearer {TOKEN}", Range=asked)
    assert got == status
    assert len(body) == (10 if status == 206 else 0)


def test_more_connections_than_allowed_are_hung_up_on(
    hub: HubServer, make_store: MakeStore
) -> None:
    with _serving(make_store("narrow", hub_endpoint=hub.url), connections=1) as server:
        held = http.client.HTTPConnection(*server.server_address[:2], timeout=5)  # type: ignore[arg-type]
        held.connect()
        time.sleep(0.1)
        with pytest.raises((http.client.HTTPException, OSError)):
            _get(server, "/")
        held.close()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                assert _get(server, "/")[0] == 401
                return
            except (http.client.HTTPException, OSError):
                time.sleep(0.02)
        pytest.fail("the slot did not come back")
