"""From the fields of OpenAI's calls to the input of a version, by what its schema has.

What a schema has goes in by its own name, so the extra fields of vLLM-Omni and SGLang work where
a model knows them. What it lacks is refused by name with the other checks of an input, unless it
is a hint that promises nothing.
"""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from inference import protocol
from marketplace.api.openai import masks
from marketplace.api.openai.forms import data_uri, refuse
from marketplace.catalog.models import Version
from marketplace.core.text import check_storable
from marketplace.jobs import loras
from marketplace.jobs.files import file_fields

B64, URL = "b64_json", "url"
HINTS = ("quality", "style", "moderation", "user", "safety_identifier", "input_fidelity")
"""Fields that no picture depends on where a model does not know them."""
_IDLE = {"background": ("auto", "opaque"), "output_compression": (100, "100"), "size": ("auto",)}
"""Values that ask for what is done anyway."""
MAX_PARTIAL = 3
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_STRIDE = 8
"""Clips of 8 n + 1 frames are what every family can make."""
_LORAS = {"type": "array", "items": {"properties": {"scale": {"type": "number"}}}}
_TYPES = {"integer": int, "number": float}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass
class Call:
    """A call as the market takes it: `names` says how the caller named fields of the input."""

    ref: str
    input: dict[str, Any]
    names: dict[str, str] = field(default_factory=dict)
    form: str = B64
    stream: bool = False
    partial_images: int = 0


def image_call(version: Version, ref: str, body: dict[str, Any]) -> Call:
    """Return the call that `body` asks of `version`. Raises InvalidInput naming the field."""
    rest = {name: value for name, value in body.items() if name != "model"}
    call = Call(ref, {})
    call.form = _choice(rest, "response_format", (B64, URL), B64)
    call.stream = _truth("stream", rest.pop("stream", False))
    call.partial_images = _whole("partial_images", rest.pop("partial_images", 0), MAX_PARTIAL)
    if call.stream and call.form != B64:
        raise refuse("response_format", "A stream brings pictures as b64_json.")
    count = rest.pop("n", None)
    has = version.input_schema["properties"]
    if count is not None and ("num_images" in has or str(count) != "1"):
        rest.setdefault("num_images", _number(count))
        call.names["num_images"] = "n"
    _pictures(version, call, rest)
    return _into_input(version, call, rest)


def video_call(version: Version, ref: str, body: dict[str, Any]) -> Call:
    """Return the call of a clip that `body` asks of `version`. Raises InvalidInput."""
    rest = {name: value for name, value in body.items() if name != "model"}
    call = Call(ref, {})
    reference = rest.pop("input_reference", None)
    if isinstance(reference, dict):
        reference = reference.get("image_url") or reference.get("file_id")
    if reference is not None:
        _takes(version, "image", "input_reference")
        rest["image"], call.names["image"] = reference, "input_reference"
    seconds = rest.pop("seconds", None)
    if seconds is not None and "num_frames" not in rest:
        rest["num_frames"] = _frames(version, rest, seconds)
        call.names["num_frames"] = "seconds"
    return _into_input(version, call, rest)


def _into_input(version: Version, call: Call, rest: dict[str, Any]) -> Call:
    """Put what is left into the call's input, in the types that its schema asks for."""
    has = version.input_schema["properties"]
    size = rest.pop("size", "auto")
    if "size" in has:
        rest["size"] = size
    elif size not in _IDLE["size"]:
        found = _SIZE.fullmatch(str(size))
        if found is None:
            raise refuse("size", 'Write it as width x height, such as "1024x1024", or "auto".')
        for name, value in zip(("width", "height"), found.groups(), strict=True):
            rest[name], call.names[name] = int(value), "size"
    usual = next(iter(protocol.output_formats(version.family)))
    for name, value in rest.items():
        if name not in has:
            idle = value in _IDLE.get(name, ()) if isinstance(value, str | int) else False
            if name in HINTS or idle or (name == protocol.OUTPUT_FORMAT and value == usual):
                continue
        node = _LORAS if name == loras.FIELD else has.get(name, {})
        call.input[name] = _typed(node, value)
        try:
            check_storable(call.input[name])  # a text may hold JSON
        except ValueError as error:
            raise refuse(call.names.get(name, name), str(error)) from error
    return call


def _pictures(version: Version, call: Call, rest: dict[str, Any]) -> None:
    """Put a picture and its mask where the engine's families look for them."""
    given = [rest.pop(name) for name in ("image", "url") if name in rest]
    images = [one for each in given for one in (each if isinstance(each, list) else [each])]
    if given and not images:
        raise refuse("image", "Send a picture.")
    if len(images) > 1:
        raise refuse("image", f"This model takes one picture, and these are {len(images)}.")
    if images:
        _takes(version, "image", "image")
        rest["image"] = images[0]
    mask = rest.pop("mask", None)
    if mask is not None:
        _takes(version, "mask_image", "mask")
        if not isinstance(mask, str):
            raise refuse("mask", "Send the mask as a file.")
        rest["mask_image"] = data_uri(masks.white_where_transparent(mask))
        call.names["mask_image"] = "mask"


def _takes(version: Version, name: str, called: str) -> None:
    if name not in file_fields(version.input_schema):
        raise refuse(called, "This model takes no such picture.")


def _frames(version: Version, rest: dict[str, Any], seconds: Any) -> int:
    """Return how many frames last about `seconds`."""
    has = version.input_schema["properties"]
    rate = _number(rest.get("fps", has.get("fps", {}).get("default")))
    length = _number(seconds)
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in (rate, length))
    if "num_frames" not in has or rate is None:
        raise refuse("seconds", "The length of this model's clips cannot be chosen so.")
    if not numbers:
        raise refuse("seconds", "A number of seconds, and of frames a second in fps.")
    if not 0 < length <= 3600 or not 0 < rate <= 1000:
        raise refuse("seconds", "More than 0 and at most 3600.")
    frames: int = round(length * rate / _STRIDE) * _STRIDE + 1
    return frames


def _choice(rest: dict[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    value = rest.pop(name, default)
    if value not in known:
        raise refuse(name, f"One of {', '.join(known)}.")
    return str(value)


def _truth(name: str, value: Any) -> bool:
    found = _TRUTH.get(str(value).lower())
    if found is None:
        raise refuse(name, "true or false.")
    return found


def _whole(name: str, value: Any, most: int) -> int:
    found = _number(value)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= most:
        raise refuse(name, f"A whole number from 0 to {most}.")
    return found


def _number(value: Any) -> Any:
    """Return the number that a text of a form is, else the value as it is."""
    return _typed({"type": "integer"}, _typed({"type": "number"}, value))


def _typed(node: Any, value: Any) -> Any:
    """Return what a text of a form means where the schema asks for something else than a text."""
    kind = node.get("type") if isinstance(node, dict) else None
    if isinstance(value, list) and isinstance(node, dict):
        return [_typed(node.get("items", {}), each) for each in value]
    if isinstance(value, dict) and isinstance(node, dict):
        inner = node.get("properties", {})
        return {name: _typed(inner.get(name, {}), each) for name, each in value.items()}
    if isinstance(value, float) and kind == "integer" and value.is_integer():
        return int(value)
    if not isinstance(value, str) or len(value) > 100_000:
        return value
    try:
        if kind in _TYPES:
            number = float(value)
            if not math.isfinite(number):
                return value
            return int(value) if value.lstrip("+-").isdecimal() else number
        if kind == "boolean":
            return _TRUTH.get(value.lower(), value)
        if kind in ("array", "object"):
            return json.loads(value)
    except (ValueError, RecursionError):
        pass  # the schema says what is wrong with it
    return value
