"""A model, a hub, an S3 server and stores with caches of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from inference.engine.weights import Model, WeightsStore, digest_of
from inference.engine.weights.settings import WeightsSettings
from tests.inference.engine.weights.hub import HubServer
from tests.inference.engine.weights.models import write_model

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 20 MiB: three chunks. Tests leave it as it is."""
    return write_model(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def digest(source: Path) -> str:
    return digest_of(source)


@pytest.fixture
def hub(source: Path) -> Iterator[HubServer]:
    with HubServer(source) as server:
        yield server


@pytest.fixture
def hub_model(digest: str) -> Model:
    return Model(uri="hub://acme/tiny", digest=digest, family="flux")


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., WeightsStore]:
    """Make a store from settings; each name is a cache of its own."""

    def make(name: str = "cache", **settings: Any) -> WeightsStore:
        settings.setdefault("cache_dir", tmp_path / name)
        return WeightsStore(settings=WeightsSettings(**settings))

    return make


@dataclass(frozen=True)
class Bucket:
    """A real S3 server process (moto), spoken to over HTTP with the real boto3."""

    endpoint: str
    client: Any
    name: str = "weights"

    def upload(self, directory: Path, prefix: str) -> str:
        """Put a directory there and return its weights URI."""
        for path in directory.rglob("*"):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(directory).as_posix()}"
                self.client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())
        return f"s3://{self.name}/{prefix}"

    @property
    def settings(self) -> dict[str, Any]:
        return {"s3_endpoint_url": self.endpoint, "s3_buckets": (self.name,)}


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    client = boto3.client("s3", endpoint_url=moto, region_name="us-east-1")
    client.create_bucket(Bucket="weights")
    return Bucket(moto, client)
