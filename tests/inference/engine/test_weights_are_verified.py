"""Weights load only from a known place, with the registered digest, and without code."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from inference.engine.errors import WeightsMismatchError, WeightsUnavailableError
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore, digest_of


@pytest.fixture
def copy(tiny_flux: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_flux, tmp_path / "copy"))


def test_the_digest_is_the_documented_one(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.safetensors").write_bytes(b"one")
    (tmp_path / "a.json").write_bytes(b"two")
    (tmp_path / "README.md").write_bytes(b"not hashed")
    lines = "".join(
        f"{hashlib.sha256(body).hexdigest()}  {name}\n"
        for name, body in (("a.json", b"two"), ("b/x.safetensors", b"one"))
    )
    assert digest_of(tmp_path) == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def test_a_wrong_digest_is_refused(engine: Engine, tiny_model: Model) -> None:
    wrong = Model(uri=tiny_model.uri, digest="sha256:" + "0" * 64, family="flux")
    future = engine.submit(wrong, GenerationRequest(prompt="a"))
    with pytest.raises(WeightsMismatchError, match=str(tiny_model.digest)):
        future.result()


def test_one_changed_byte_changes_the_digest(copy: Path, tiny_model: Model) -> None:
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1
    weights.chmod(0o600)
    weights.write_bytes(body)
    assert digest_of(copy) != tiny_model.digest


@pytest.mark.parametrize("name", ["vae/weights.bin", "x.ckpt", "text_encoder/a.PT", "y.pkl"])
def test_a_pickle_is_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"\x80\x04.")
    model = Model(uri=copy.as_uri(), digest=None, family="flux")
    with pytest.raises(WeightsMismatchError, match="is a pickle"):
        WeightsStore([copy]).open(model)


def test_code_is_refused(copy: Path) -> None:
    (copy / "pipeline.py").write_text("raise SystemExit")
    with pytest.raises(WeightsMismatchError, match="is code"):
        digest_of(copy)


def test_a_link_that_leaves_the_directory_is_refused(copy: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (copy / "linked.json").symlink_to(secret)
    with pytest.raises(WeightsMismatchError, match="leaves the directory"):
        digest_of(copy)
    (copy / "linked.json").unlink()
    (copy / "folder").symlink_to(tmp_path)
    with pytest.raises(WeightsMismatchError, match="link to a directory"):
        digest_of(copy)


def test_an_index_that_names_another_library_is_refused(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    index["vae"] = ["subprocess", "Popen"]
    (copy / "model_index.json").write_text(json.dumps(index))
    model = Model(uri=copy.as_uri(), digest=None, family="flux")
    with pytest.raises(WeightsMismatchError, match="vae comes from the library subprocess"):
        WeightsStore([copy]).open(model)


@pytest.mark.parametrize(
    "uri",
    ["file:///etc", "file://host/tmp", "https://example.org/x", "starter:../../etc", "noop:x"],
)
def test_an_address_elsewhere_is_refused(uri: str, weights_dir: Path) -> None:
    with pytest.raises(WeightsUnavailableError):
        WeightsStore([weights_dir]).locate(uri)


def test_dots_do_not_climb_out_of_the_listed_directory(weights_dir: Path) -> None:
    with pytest.raises(WeightsUnavailableError, match="MERCATO_WEIGHTS_DIRS"):
        WeightsStore([weights_dir]).locate(f"file://{weights_dir}/%2e%2e/")


def test_the_noop_family_takes_no_real_weights(tiny_model: Model, weights_dir: Path) -> None:
    crossed = Model(uri=tiny_model.uri, digest=tiny_model.digest, family="noop")
    with pytest.raises(WeightsMismatchError):
        WeightsStore([weights_dir]).open(crossed)
