"""From the hub come the files that a pipeline loads, of one commit, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inference.engine.errors import WeightsMismatchError, WeightsUnavailableError
from inference.engine.weights import Model, WeightsStore, digest_of
from inference.engine.weights.hub import pipeline_files
from tests.inference.engine.weights.conftest import WEIGHTS
from tests.inference.engine.weights.hub import HubServer

MakeStore = Callable[..., WeightsStore]

LITTER = [
    "README.md",
    "flux1-dev.safetensors",
    "transformer/diffusion_pytorch_model.fp16.safetensors",
    "transformer/diffusion_pytorch_model.bin",
    "transformer/flax_model.msgpack",
    "transformer/model.onnx",
    "transformer/nested/config.json",
    "image_encoder/model.safetensors",
    "other/config.json",
]


@pytest.fixture
def littered(source: Path, tmp_path: Path) -> Iterator[HubServer]:
    directory = Path(shutil.copytree(source, tmp_path / "repository"))
    for name in LITTER:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(b"\x80\x04.")
    with HubServer(directory) as server:
        yield server


def test_only_what_the_pipeline_loads_is_downloaded(
    littered: HubServer, source: Path, digest: str, make_store: MakeStore
) -> None:
    store = make_store(hub_endpoint=littered.url)
    opened = store.open_with_report(Model(uri="hub://acme/tiny@v1", digest=digest, family="flux"))
    assert opened.directory is not None
    assert opened.digest == digest
    assert {path for path, _, _ in littered.given} == {
        path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()
    }
    (row,) = opened.report.sources
    assert row.source.startswith("hub 127.0.0.1:")


def test_a_second_load_downloads_nothing(
    hub: HubServer, hub_model: Model, make_store: MakeStore
) -> None:
    store = make_store(hub_endpoint=hub.url)
    store.open(hub_model)
    given = len(hub.given)
    store.open(hub_model)
    assert len(hub.given) == given


def test_a_wrong_digest_is_refused_before_the_large_files_come(
    hub: HubServer, make_store: MakeStore
) -> None:
    store = make_store(hub_endpoint=hub.url)
    with pytest.raises(WeightsMismatchError, match="have the digest"):
        store.open(Model(uri="hub://acme/tiny", digest="sha256:" + "0" * 64, family="flux"))
    assert hub.bytes_of(WEIGHTS) == 0


def test_the_token_opens_the_hub_and_never_leaves_it(
    source: Path, digest: str, make_store: MakeStore
) -> None:
    model = Model(uri="hub://acme/tiny", digest=digest, family="flux")
    with HubServer(source, token="hf_secret") as hub:
        with pytest.raises(WeightsUnavailableError, match="HF_TOKEN") as raised:
            make_store("without", hub_endpoint=hub.url, hub_token="hf_wrong").open(model)
        assert "hf_wrong" not in str(raised.value)
        make_store("with", hub_endpoint=hub.url, hub_token="hf_secret").open(model)
        assert hub.cdn_tokens
        assert set(hub.cdn_tokens) == {None}


def test_an_owner_that_the_operator_did_not_list_is_not_asked(
    hub: HubServer, hub_model: Model, make_store: MakeStore
) -> None:
    store = make_store(hub_endpoint=hub.url, hub_owners=("black-forest-labs",))
    with pytest.raises(WeightsUnavailableError, match="WEIGHTS_HUB_OWNERS"):
        store.open(hub_model)
    assert hub.given == []


def test_an_absent_repository_is_one_clear_error(hub: HubServer, make_store: MakeStore) -> None:
    store = make_store(hub_endpoint=hub.url)
    with pytest.raises(WeightsUnavailableError, match=r"weights hub://acme/none: HTTP 404"):
        store.open(Model(uri="hub://acme/none", digest=None, family="flux"))


def test_custom_code_in_the_repository_is_refused_before_the_large_files_come(
    source: Path, tmp_path: Path, make_store: MakeStore
) -> None:
    directory = Path(shutil.copytree(source, tmp_path / "repository"))
    config = directory / "transformer" / "config.json"
    config.write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    with HubServer(directory) as hub:
        with pytest.raises(WeightsMismatchError, match="auto_map"):
            make_store(hub_endpoint=hub.url).open(
                Model(uri="hub://acme/tiny", digest=digest_of(directory), family="flux")
            )
        assert hub.bytes_of(WEIGHTS) == 0


def test_variants_and_indexes_of_pickles_are_left_out() -> None:
    index = {"_class_name": "X", "unet": ["diffusers", "U"], "feature_extractor": [None, None]}
    plain = [
        "unet/config.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
    ]
    others = [
        "unet/diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        "unet/diffusion_pytorch_model.bin.index.json",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "feature_extractor/preprocessor_config.json",
        "v1-5-pruned.safetensors",
    ]
    assert pipeline_files(index, plain + others) == ["model_index.json", *sorted(plain)]


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "pytorch_model.bin"])
def test_a_part_without_plain_safetensors_is_refused(name: str) -> None:
    index = {"unet": ["diffusers", "U"]}
    with pytest.raises(WeightsMismatchError, match="unet has no plain safetensors"):
        pipeline_files(index, ["unet/config.json", f"unet/{name}"])
