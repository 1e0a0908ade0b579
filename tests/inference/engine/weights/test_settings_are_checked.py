"""A variable that is wrong is named at the start, and no secret is repeated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference.engine.weights.settings import WeightsSettings, size_of
from tests.inference.process import ROOT, bare_environment

TOKEN = {"WEIGHTS_PEER_TOKEN": "peer-secret"}


def test_nothing_set_means_a_cache_in_the_home_and_no_peers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    settings = WeightsSettings.from_env({})
    assert settings.cache_dir == Path("/home/someone/.cache/mercato/weights")
    assert WeightsSettings.from_env({"XDG_CACHE_HOME": "/c"}).cache_dir == Path(
        "/c/mercato/weights"
    )
    assert settings.cache_bytes is None
    assert (settings.peers, settings.discover_peers, settings.serve_port) == ((), False, None)
    assert (settings.roots, settings.s3_buckets, settings.hub_owners) == ((), (), ())


def test_every_variable_is_read() -> None:
    settings = WeightsSettings.from_env(
        {
            "MERCATO_WEIGHTS_DIRS": "/a:/b",
            "WEIGHTS_CACHE_DIR": "/cache",
            "WEIGHTS_CACHE_BYTES": "1.5T",
            "WEIGHTS_PARALLEL": "3",
            "WEIGHTS_S3_BUCKETS": "one, two/team/",
            "WEIGHTS_S3_ENDPOINT_URL": "http://minio:9000/",
            "WEIGHTS_S3_REGION": "eu-north-1",
            "WEIGHTS_S3_ANONYMOUS": "1",
            "HF_ENDPOINT": "https://hub.example",
            "HF_TOKEN": "hf_secret",
            "WEIGHTS_HUB_OWNERS": "acme,stabilityai",
            "WEIGHTS_PEERS": "http://10.0.0.5:8470/, auto",
            **TOKEN,
            "WEIGHTS_SERVE_HOST": "10.0.0.6",
            "WEIGHTS_SERVE_PORT": "8470",
            "WEIGHTS_SERVE_CONNECTIONS": "4",
            "WEIGHTS_ADVERTISE_URL": "http://10.0.0.6:8470",
        }
    )
    assert settings == WeightsSettings(
        roots=(Path("/a"), Path("/b")),
        cache_dir=Path("/cache"),
        cache_bytes=1_500_000_000_000,
        parallel=3,
        s3_buckets=("one", "two/team"),
        s3_endpoint_url="http://minio:9000",
        s3_region="eu-north-1",
        s3_anonymous=True,
        hub_endpoint="https://hub.example",
        hub_token="hf_secret",
        hub_owners=("acme", "stabilityai"),
        peers=("http://10.0.0.5:8470",),
        discover_peers=True,
        peer_token="peer-secret",
        serve_host="10.0.0.6",
        serve_port=8470,
        serve_connections=4,
        advertise_url="http://10.0.0.6:8470",
    )
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEIGHTS_CACHE_BYTES", "much"),
        ("WEIGHTS_CACHE_BYTES", "0"),
        ("WEIGHTS_CACHE_BYTES", "0.1"),
        ("WEIGHTS_CACHE_BYTES", "-5G"),
        ("WEIGHTS_CACHE_BYTES", "9" * 400),
        ("WEIGHTS_PARALLEL", "0"),
        ("WEIGHTS_PARALLEL", "²"),
        ("WEIGHTS_PARALLEL", "100000"),
        ("WEIGHTS_SERVE_PORT", "65536"),
        ("WEIGHTS_SERVE_PORT", "http"),
        ("WEIGHTS_SERVE_CONNECTIONS", "none"),
        ("WEIGHTS_S3_ANONYMOUS", "false"),
        ("WEIGHTS_S3_ENDPOINT_URL", "minio:9000"),
        ("HF_ENDPOINT", "https://user:hush@hub.example"),
        ("WEIGHTS_ADVERTISE_URL", "ftp://10.0.0.6"),
        ("WEIGHTS_PEERS", "http://[::1"),
        ("WEIGHTS_PEERS", "http://10.0.0.5:99999"),
        ("WEIGHTS_PEERS", "http://10.0.0.5/?hush=1"),
        ("WEIGHTS_PEERS", "10.0.0.5"),
        ("WEIGHTS_PEER_TOKEN", "hush hush"),
        ("WEIGHTS_PEER_TOKEN", "hush\r\nX: y"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} ") as raised:
        WeightsSettings.from_env({**TOKEN, name: value})
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEIGHTS_PEERS", "http://10.0.0.5:8470"),
        ("WEIGHTS_PEERS", "auto"),
        ("WEIGHTS_SERVE_PORT", "8470"),
    ],
)
@pytest.mark.parametrize("token", [{}, {"WEIGHTS_PEER_TOKEN": ""}])
def test_peers_without_a_token_are_refused(name: str, value: str, token: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"^{name} needs WEIGHTS_PEER_TOKEN"):
        WeightsSettings.from_env({name: value, **token})
    with pytest.raises(ValueError, match="needs WEIGHTS_PEER_TOKEN"):
        WeightsSettings(cache_dir=Path("/cache"), peers=("http://10.0.0.5:8470",))


@pytest.mark.parametrize("name", ["WEIGHTS_PEERS", "WEIGHTS_SERVE_PORT"])
def test_a_process_with_peers_but_no_token_stops_with_one_line(name: str) -> None:
    value = {"WEIGHTS_PEERS": "http://127.0.0.1:1", "WEIGHTS_SERVE_PORT": "1"}[name]
    done = subprocess.run(
        [sys.executable, "-m", "inference", "weights", "serve"],
        cwd=ROOT,
        env={**bare_environment(), name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    secret = "a secret that all peers share"
    assert done.stderr == f"inference: {name} needs WEIGHTS_PEER_TOKEN, {secret}\n"


@pytest.mark.parametrize(
    ("text", "size"), [("1000", 1000), ("200G", 200 * 10**9), ("1.5 tb", 15 * 10**11), ("2k", 2000)]
)
def test_sizes_are_in_powers_of_a_thousand(text: str, size: int) -> None:
    assert size_of(text, "X") == size
