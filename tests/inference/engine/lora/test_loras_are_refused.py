"""What is wrong with a LoRA is said in one line that names it, before anything is drawn."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inference.engine.errors import (
    EngineError,
    InvalidRequestError,
    WeightsMismatchError,
    WeightsUnavailableError,
)
from inference.engine.lora.formats import MAX_TENSORS
from inference.engine.request import GenerationRequest, LoraUse
from inference.engine.runner import Engine
from inference.engine.weights import NOOP_DIGEST, Model, digest_of
from inference.engine.weights.rules import MAX_HEADER_BYTES
from tests.inference.engine.lora.conftest import BOUND, Pixels, use
from tests.inference.engine.lora.files import Maker, Tensors, flux_peft, save

Draw = Callable[..., Pixels]
QUERY = "transformer.transformer_blocks.0.attn.to_q"


def _refused(draw: Draw, lora: LoraUse, kind: type[EngineError]) -> str:
    with pytest.raises(kind) as caught:
        draw("flux", [lora])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_digest(draw: Draw, weights_dir: Path) -> None:
    path = save(weights_dir / "digest.safetensors", flux_peft())
    lora = LoraUse(uri=path.as_uri(), digest="sha256:" + "0" * 64)
    assert "has the digest sha256:" in _refused(draw, lora, WeightsMismatchError)
    draw("flux", [use(path)])
    _refused(draw, lora, WeightsMismatchError)


def test_a_directory_is_known_by_its_own_digest(draw: Draw, weights_dir: Path) -> None:
    directory = weights_dir / "one-lora"
    directory.mkdir()
    path = save(directory / "weights.safetensors", flux_peft())
    lora = LoraUse(uri=directory.as_uri(), digest=digest_of(directory))
    assert abs(draw("flux", [lora]) - draw("flux", [use(path)])).max() <= BOUND
    _refused(draw, LoraUse(uri=lora.uri, digest=use(path).digest), WeightsMismatchError)
    save(directory / "second.safetensors", flux_peft())
    message = _refused(draw, LoraUse(uri=lora.uri, digest="sha256:" + "1" * 64), EngineError)
    assert "holds 2 safetensors files" in message


@pytest.mark.parametrize("name", ["lora.bin", "lora.pt", "named.safetensors"])
def test_a_pickle(draw: Draw, weights_dir: Path, name: str) -> None:
    path = weights_dir / name
    path.write_bytes(pickle.dumps(print))
    assert "safetensors" in _refused(draw, use(path), WeightsMismatchError)


def test_a_pickle_beside_it(draw: Draw, weights_dir: Path) -> None:
    directory = weights_dir / "with-pickle"
    directory.mkdir()
    save(directory / "weights.safetensors", flux_peft())
    (directory / "weights.bin").write_bytes(pickle.dumps(print))
    lora = LoraUse(uri=directory.as_uri())
    assert "is a pickle" in _refused(draw, lora, WeightsMismatchError)


def test_a_file_that_is_cut_short(draw: Draw, weights_dir: Path) -> None:
    path = save(weights_dir / "cut.safetensors", flux_peft())
    path.write_bytes(path.read_bytes()[:-8])
    assert "whole safetensors" in _refused(draw, use(path), WeightsMismatchError)


@pytest.mark.parametrize("uri", ["file:///etc/lora.safetensors", "nosuch:lora", "noop:"])
def test_an_address_that_may_not_be_read(draw: Draw, uri: str) -> None:
    _refused(draw, LoraUse(uri=uri), WeightsUnavailableError)


def test_a_file_that_is_not_there(draw: Draw, weights_dir: Path) -> None:
    lora = LoraUse(uri=(weights_dir / "absent.safetensors").as_uri())
    assert "are not on this worker" in _refused(draw, lora, WeightsUnavailableError)


def test_a_link_out_of_the_directory(draw: Draw, weights_dir: Path, tmp_path: Path) -> None:
    outside = save(tmp_path / "outside.safetensors", flux_peft())
    link = weights_dir / "link.safetensors"
    link.symlink_to(outside)
    lora = LoraUse(uri=link.as_uri())
    assert "leaves the directory" in _refused(draw, lora, WeightsMismatchError)


def _bad(**changes: torch.Tensor) -> Tensors:
    return {**flux_peft(), **{f"{QUERY}.{name}": value for name, value in changes.items()}}


MISFITS = {
    "other-width": (Maker(0, 4).peft(QUERY, 32, 64), "to_q is [32, 32] in the model"),
    "no-module": (
        Maker(0, 4).peft("transformer.transformer_blocks.7.attn.to_q", 32, 32),
        "the model has no module transformer_blocks.7.attn.to_q",
    ),
    "norm": (Maker(0, 4).peft("transformer.norm_out.norm", 32, 32), "is of a kind"),
    "half": ({f"{QUERY}.lora_A.weight": torch.ones(4, 32)}, "no whole pair"),
    "ranks": (
        {f"{QUERY}.lora_A.weight": torch.ones(4, 32), f"{QUERY}.lora_B.weight": torch.ones(32, 3)},
        "do not belong together",
    ),
    "nan": (
        {
            f"{QUERY}.lora_A.weight": torch.full((4, 32), torch.nan),
            f"{QUERY}.lora_B.weight": torch.ones(32, 4),
        },
        "not finite",
    ),
    "dora": (_bad(lora_magnitude_vector=torch.ones(32)), "is DoRA"),
    "lokr": ({f"{QUERY}.lokr_w1": torch.ones(4, 4)}, "is LoKr"),
    "bias": ({**flux_peft(), f"{QUERY}.lora_B.bias": torch.ones(32)}, "with biases"),
    "integers": ({f"{QUERY}.lora_A.weight": torch.ones(4, 32, dtype=torch.int8)}, "real numbers"),
    "text-encoder": (
        Maker(0, 4).peft("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", 16, 16),
        "changes the text encoder",
    ),
    "text-encoder-kohya": (
        Maker(0, 4).kohya("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", 16, 16),
        "changes the text encoder",
    ),
    "other": ({"weight": torch.ones(4)}, "no known format"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_the_callers_mistake(draw: Draw, weights_dir: Path, name: str) -> None:
    tensors, words = MISFITS[name]
    path = save(weights_dir / f"misfit-{name}.safetensors", tensors)
    message = _refused(draw, use(path), InvalidRequestError)
    assert message.startswith("loras")
    assert words in message


@pytest.mark.parametrize("pattern", ["(([a-z_0-9.]*)*)*!", "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)!"])
def test_a_pattern_in_the_header_cannot_keep_the_worker_busy(
    draw: Draw, weights_dir: Path, pattern: str
) -> None:
    config = {"transformer.lora_alpha": 4, "transformer.alpha_pattern": {pattern: 1}}
    path = save(weights_dir / "backtracks.safetensors", flux_peft(), config)
    began = time.monotonic()
    draw("flux", [use(path)])
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "config",
    [
        {"transformer.lora_alpha": "much"},
        {"transformer.lora_alpha": 10**400},
        {"transformer.lora_alpha": 4, "transformer.alpha_pattern": ["to_q"]},
    ],
)
def test_a_strength_that_is_no_number(
    draw: Draw, weights_dir: Path, config: dict[str, object]
) -> None:
    path = save(weights_dir / "alpha.safetensors", flux_peft(), config)
    assert "no number as alpha" in _refused(draw, use(path), InvalidRequestError)


def _with_header(path: Path, header: str) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"\0" * 64)
    return path


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("[" * 100_000, "whole safetensors"),
        ('{"__metadata__": {"lora_adapter_metadata": "' + "[" * 100_000 + '"}}', "whole"),
        ("[]", "whole safetensors"),
        (" " * (MAX_HEADER_BYTES + 1), "too long"),
        (json.dumps(dict.fromkeys(map(str, range(MAX_TENSORS + 1)), 0)), "tensors"),
    ],
    ids=["nested", "nested-config", "list", "long", "many"],
)
def test_a_header_that_is_a_bomb(draw: Draw, weights_dir: Path, header: str, words: str) -> None:
    path = _with_header(weights_dir / "bomb.safetensors", header)
    assert words in _refused(draw, use(path), WeightsMismatchError)


def test_a_bad_lora_fails_its_own_request_only(
    engine: Engine, tiny_model: Model, weights_dir: Path
) -> None:
    bad = save(weights_dir / "alone.safetensors", MISFITS["other-width"][0])
    good = save(weights_dir / "beside.safetensors", flux_peft())
    requests = [
        GenerationRequest(prompt="a red circle", steps=2, loras=loras)
        for loras in ((), (use(bad),), (use(good),), (use(good), use(bad)))
    ]
    futures = [engine.submit(tiny_model, request) for request in requests]
    failed = [future.exception() for future in futures]
    assert [isinstance(error, InvalidRequestError) for error in failed] == [False, True] * 2
    assert len(futures[0].result().images) == len(futures[2].result().images) == 1


def test_a_model_without_a_denoiser_takes_none(engine: Engine) -> None:
    model = Model(uri="noop:", digest=NOOP_DIGEST, family="noop")
    request = GenerationRequest(prompt="a", loras=(LoraUse(uri="file:///x.safetensors"),))
    with pytest.raises(InvalidRequestError, match=r"^loras is not a field of this model"):
        engine.submit(model, request).result()
