"""Reads LoRA files of the usual key formats into pairs of factors by module.

The names of other trainers are translated by diffusers' own converters.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.engine.errors import InvalidRequestError, WeightsMismatchError
from inference.engine.weights.rules import MAX_HEADER_BYTES

if TYPE_CHECKING:
    import torch

METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers keeps PEFT's configuration in the header of a file."""
MAX_TENSORS = 20_000
"""More than any LoRA has: a module takes three, and large models have some thousand modules."""

REFUSED = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
    "oft_": "OFT",
    "lora_mid": "a LoCon with a middle factor",
    "lora_B.bias": "a LoRA with biases",
    "lora_up.bias": "a LoRA with biases",
    "diff_b": "a full change of biases",
    ".diff": "a full change of weights",
    "set_weight": "a replacement of weights",
    "query_norm.scale": "a control LoRA with norms",
}
_NOT_A_VALUE = (ValueError, TypeError, AttributeError, RuntimeError, OverflowError)
"""What comes of reading a header that holds other things than it should; nesting included."""
TEXT_ENCODERS = ("text_encoder", "lora_te", "text_encoders")


@dataclass(frozen=True, slots=True)
class Factors:
    """One module's change as the file has it; `strength` is alpha over rank, or what PEFT says."""

    down: torch.Tensor
    up: torch.Tensor
    strength: float


def parse(data: bytes, uri: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file and PEFT's configuration in its header, if any.

    Raises WeightsMismatchError where it is no such file.
    """
    import safetensors
    import safetensors.torch

    length = int.from_bytes(data[:8], "little")
    if MAX_HEADER_BYTES < length < len(data):
        raise WeightsMismatchError(f"LoRA {uri} has a header of {length} bytes, which is too long")
    try:
        named = json.loads(data[8 : 8 + length] if length < len(data) else b"")
        header = named.get("__metadata__") or {}
        config = json.loads(header.get(METADATA_KEY, "{}"))
        if len(named) > MAX_TENSORS:
            raise WeightsMismatchError(f"LoRA {uri} has more than {MAX_TENSORS} tensors")
        tensors: dict[str, torch.Tensor] = safetensors.torch.load(data)
    except (safetensors.SafetensorError, LookupError, *_NOT_A_VALUE) as error:
        raise WeightsMismatchError(f"LoRA {uri} is not a whole safetensors file") from error
    if not tensors or not isinstance(config, dict):
        raise WeightsMismatchError(f"LoRA {uri} holds nothing")
    return tensors, config


def _refuse(uri: str, keys: list[str]) -> None:
    for key in keys:
        for part, kind in REFUSED.items():
            if part in key:
                raise InvalidRequestError(f"loras: {uri} is {kind}, which is not served ({key})")
        if key.startswith(TEXT_ENCODERS):
            raise InvalidRequestError(
                f"loras: {uri} changes the text encoder ({key}); only the denoiser is adapted"
            )


def _to_diffusers(
    pipeline: Any, tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return tensors and alphas under the names of diffusers and PEFT."""
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

    arguments: dict[str, Any] = {"return_lora_metadata": True}
    if hasattr(pipeline, "unet"):
        arguments["unet_config"] = pipeline.unet.config
    else:
        arguments["return_alphas"] = True
    # It warns of keys that we refuse ourselves.
    logging.getLogger("diffusers.loaders").setLevel(logging.ERROR)
    state, *rest = type(pipeline).lora_state_dict(dict(tensors), **arguments)
    alphas = {**next((found for found in rest if isinstance(found, dict)), {})}
    alphas.update({key: state.pop(key) for key in list(state) if key.endswith(".alpha")})
    if any(".lora_A" not in key and ".lora_B" not in key for key in state):
        state = convert_unet_state_dict_to_peft(state)
        alphas = convert_unet_state_dict_to_peft(alphas)
    return state, alphas


def _module(key: str) -> str:
    """Return the module's path that a converted key, or an alpha's, is of."""
    return key.removesuffix(".alpha").partition(".lora")[0]


def _of_path(patterns: dict[str, Any], path: str, default: Any) -> Any:
    """Return the value of the first of `patterns` that is `path` or its end, as PEFT chooses.

    PEFT reads them as regular expressions. These are a stranger's, and one that backtracks would
    stop the whole process; files have plain names there, with ^ before a path that is whole.
    """
    ends = {path, f"^{path}"}
    ends.update(path[at + 1 :] for at, letter in enumerate(path) if letter == ".")
    return next((value for name, value in patterns.items() if name in ends), default)


def _strength(path: str, rank: int, alpha: Any, config: dict[str, Any]) -> float:
    if alpha is not None:
        return float(alpha) / rank
    if "lora_alpha" not in config:
        return 1.0
    found = _of_path(config.get("alpha_pattern") or {}, path, config["lora_alpha"])
    return float(found) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def convert(
    pipeline: Any, uri: str, tensors: dict[str, torch.Tensor], config: dict[str, Any]
) -> dict[str, Factors]:
    """Return the factors by module of the denoiser of `pipeline`, a stock diffusers pipeline.

    Raises InvalidRequestError that begins with `loras` where the file holds anything else.
    """
    if not hasattr(pipeline, "lora_state_dict"):
        raise InvalidRequestError("loras is not a field of this model")
    _refuse(uri, list(tensors))
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise InvalidRequestError(f"loras: {uri} has tensors that are not of real numbers")
    bare = {key.removeprefix("base_model.model."): value for key, value in tensors.items()}
    # fal's files for FLUX carry that prefix too; their converter wants it.
    named = tensors if any("double_blocks" in key for key in tensors) else bare
    try:
        state, alphas = _to_diffusers(pipeline, named)
    except Exception as error:
        raise InvalidRequestError(f"loras: {uri} has keys of no known format") from error
    _refuse(uri, list(state))
    return _pair(pipeline, uri, state, alphas, config)


def _pair(
    pipeline: Any, uri: str, state: dict[str, Any], alphas: dict[str, Any], config: dict[str, Any]
) -> dict[str, Factors]:
    """Bring the two factors of each module together."""
    part = "unet." if hasattr(pipeline, "unet") else "transformer."
    own = {key.removeprefix(part): v for key, v in config.items() if key.startswith(part)}
    if own.get("use_dora"):
        raise InvalidRequestError(f"loras: {uri} is DoRA, which is not served")
    strengths = {_module(key).removeprefix(part): alpha for key, alpha in alphas.items()}
    found: dict[str, dict[str, Any]] = {}
    for key, tensor in state.items():
        path, _, factor = key.removeprefix(part).rpartition(".lora_")
        if factor not in ("A.weight", "B.weight"):
            raise InvalidRequestError(f"loras: {uri} has keys of no known format, such as {key}")
        found.setdefault(path, {})[factor[0]] = tensor
    pairs = {}
    for path, both in found.items():
        if len(both) != 2 or not all(tensor.ndim in (2, 4) for tensor in both.values()):
            raise InvalidRequestError(f"loras: {uri} has no whole pair of factors for {path}")
        rank = both["A"].shape[0]
        if not rank:
            raise InvalidRequestError(f"loras: {uri} has rank 0 at {path}")
        try:
            strength = _strength(path, rank, strengths.get(path), own)
        except _NOT_A_VALUE as error:
            raise InvalidRequestError(f"loras: {uri} has no number as alpha of {path}") from error
        pairs[path] = Factors(both["A"], both["B"], strength)
    if not pairs:
        raise InvalidRequestError(f"loras: {uri} changes nothing of this model")
    return pairs
