"""A model that names a class which its library lacks is refused before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.engine.errors import WeightsMismatchError
from inference.engine.weights import Model, WeightsStore, digest_of
from inference.engine.weights.classes import is_loadable
from tests.inference.engine.weights.conftest import WEIGHTS
from tests.inference.engine.weights.hub import HubServer
from tests.inference.engine.weights.models import INDEX, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", 0.1)


def _change(directory: Path, **changes: Any) -> Model:
    (directory / "model_index.json").write_text(json.dumps({**INDEX, **changes}))
    return Model(uri=directory.as_uri(), digest=None, family="flux")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"_class_name": "NoSuchPipeline"}, "the pipeline 'NoSuchPipeline' is none of"),
        ({"_class_name": "os.system"}, "is none of"),
        ({"_class_name": 5}, "_class_name is not the name of a pipeline"),
        ({"_class_name": ["FluxPipeline"]}, "_class_name is not the name of a pipeline"),
        ({"transformer": ["diffusers", "NoSuchTransformer"]}, "no class 'NoSuchTransformer'"),
        ({"transformer": ["diffusers", "DiffusionPipeline"]}, "no class 'DiffusionPipeline'"),
        ({"transformer": ["diffusers", "FluxPipeline"]}, "no class 'FluxPipeline'"),
        ({"transformer": ["diffusers", "utils"]}, "no class 'utils'"),
        ({"transformer": ["diffusers", "__init__"]}, "no class '__init__'"),
        ({"transformer": ["diffusers", "models.UNet2DModel"]}, "no class 'models.UNet2DModel'"),
        ({"transformer": ["diffusers", ""]}, "no class ''"),
        ({"transformer": ["diffusers", None]}, "no class None"),
        ({"transformer": ["diffusers", {}]}, "is not a library and a class"),
        ({"transformer": ["diffusers"]}, "is not a library and a class"),
        ({"transformer": ["diffusers", "X", "Y"]}, "is not a library and a class"),
        ({"tokenizer": ["transformers", "pipeline"]}, "no class 'pipeline'"),
        ({"tokenizer": ["transformers", "Trainer"]}, "no class 'Trainer'"),
        ({"tokenizer": ["torch", "load"]}, "comes from the library torch"),
        ({"another": ["transformers", "NoSuchModel"]}, "another: transformers has no class"),
    ],
)
def test_an_index_that_names_an_unknown_class_is_refused(
    model: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(WeightsMismatchError, match=says):
        WeightsStore([model.parent]).open(_change(model, **changes))


@pytest.mark.parametrize("name", ["NoSuchModel", "DiffusionPipeline", "", 5, ["UNet2DModel"], {}])
def test_a_part_that_names_an_unknown_class_of_its_own_is_refused(model: Path, name: Any) -> None:
    (model / "transformer" / "config.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(WeightsMismatchError, match=r"transformer/config\.json: diffusers has no"):
        WeightsStore([model.parent]).open(_change(model))


def test_known_classes_pass(model: Path) -> None:
    changes = {"text_encoder": ["transformers", "CLIPTextModel"], "vae": [None, None]}
    assert WeightsStore([model.parent]).open(_change(model, **changes)) == model


@pytest.mark.parametrize(
    ("library", "name", "loadable"),
    [
        ("diffusers", "AutoencoderKL", True),
        ("diffusers", "UniPCMultistepScheduler", True),
        ("diffusers", "WanTransformer3DModel", True),
        ("transformers", "T5EncoderModel", True),
        ("transformers", "T5TokenizerFast", True),
        ("transformers", "CLIPImageProcessor", True),
        ("stable_diffusion", "StableDiffusionSafetyChecker", True),
        ("stable_diffusion", "StableDiffusionPipeline", False),
        ("diffusers", "OnnxRuntimeModel", False),
        ("diffusers", "FlaxAutoencoderKL", False),
        ("diffusers", "ModelMixinX", False),
        ("transformers", "TFBertModel", False),
        ("transformers", "FlaxBertModel", False),
    ],
)
def test_what_may_be_loaded_descends_from_a_base_of_its_library(
    library: str, name: str, loadable: bool
) -> None:
    assert is_loadable(library, name) is loadable


def test_a_remote_model_is_refused_before_its_large_files_come(
    model: Path, make_store: Callable[..., WeightsStore]
) -> None:
    _change(model, transformer=["diffusers", "NoSuchTransformer"])
    with HubServer(model) as hub:
        store = make_store(hub_endpoint=hub.url)
        with pytest.raises(WeightsMismatchError, match="no class 'NoSuchTransformer'"):
            store.open(Model(uri="hub://acme/tiny", digest=digest_of(model), family="flux"))
        assert hub.bytes_of(WEIGHTS) == 0
        assert store.cache.digests() == []
