"""Turns `name=value` into an input, typed as the model's schema says."""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mercato.cli.terminal import Refused
from mercato.models import Model
from mercato.types import Json

_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def input_of(model: Model, words: Sequence[str], given: str | None) -> dict[str, Any]:
    """Return the input that a command line tells: JSON first, then each `name=value`.

    `given` is JSON, or `@file` or `-` for where it is. A file input takes `@path`. A list takes
    its name several times. Raises Refused, naming the input.
    """
    made = _whole(given) if given is not None else {}
    nodes = {each.name: each.schema for each in model.inputs}
    seen: set[str] = set()
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or not name:
            raise Refused(f"{word!r} is not of the form name=value.", 2)
        if name not in nodes:
            raise Refused(_unknown(name, model, is_file=text.startswith("@")), 2)
        value = _value(name, nodes[name], text)
        if name in seen and isinstance(made[name], list):
            made[name] += value if isinstance(value, list) else [value]
        elif name in seen:
            raise Refused(f"input.{name}: given twice.", 2)
        else:
            made[name] = value
        seen.add(name)
    return made


def _whole(given: str) -> dict[str, Any]:
    if given.startswith("@"):
        given = Path(given[1:]).read_text()
    try:
        made = json.loads(given)
    except ValueError as error:
        raise Refused(f"--input is not JSON: {error}", 2) from error
    if not isinstance(made, dict):
        raise Refused("--input must be a JSON object.", 2)
    return made


def _unknown(name: str, model: Model, *, is_file: bool) -> str:
    names = [each.name for each in model.inputs if not is_file or _takes_file(each.schema)]
    if is_file and not names:
        return f"input.{name}: {model.ref} has no such input, and takes no files."
    near = [known for known in names if name in known]
    near = near or difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else f" It takes {', '.join(names)}."
    return f"input.{name}: {model.ref} has no such input.{hint}"


def _takes_file(node: Json) -> bool:
    inner = node.get("items")
    return node.get("format") == "file-id" or (isinstance(inner, dict) and _takes_file(inner))


def _types(node: Json) -> list[str]:
    kind = node.get("type", [])
    found = [kind] if isinstance(kind, str) else list(kind)
    for branch in (*node.get("anyOf", []), *node.get("oneOf", [])):
        if isinstance(branch, dict):
            found += _types(branch)
    return found


def _value(name: str, node: Json, text: str) -> Any:
    """Return what a word means for an input. Raises Refused."""
    kinds = _types(node)
    if node.get("format") == "file-id":
        return _file(name, text) if text.startswith("@") else text
    for kind in kinds or ["any"]:
        with contextlib.suppress(ValueError):
            return _of_type(name, kind, node, text)
    expected = " or ".join(kinds)
    raise Refused(f"input.{name}: {text!r} is no {expected}.", 2)


def _of_type(name: str, kind: str, node: Json, text: str) -> Any:
    if kind == "string":
        return _text(name, text)
    if kind == "integer":
        return int(text)
    if kind == "number":
        return int(text) if text.lstrip("-").isdecimal() else _finite(text)
    if kind == "boolean":
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ValueError(text)
        return text.lower() in _TRUE
    if kind == "null":
        if text != "null":
            raise ValueError(text)
        return None
    if kind == "array" and not text.startswith("["):
        inner = node.get("items")
        return [_value(name, inner, text) if isinstance(inner, dict) else text]
    if kind == "any":
        return _json_or_text(_text(name, text))
    made = json.loads(text)
    if not isinstance(made, list if kind == "array" else dict):
        raise ValueError(text)
    return made


def _finite(text: str) -> float:
    made = float(text)
    if made != made or made in (float("inf"), float("-inf")):
        raise ValueError(text)
    return made


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(name: str, text: str) -> str:
    """Return a text: what looks like a file is not sent, and paid for, as the name of one."""
    if text.startswith("@") and not text.startswith("@@"):
        raise Refused(f"input.{name} is no file: for a text that begins with @, write @{text}", 2)
    return text.removeprefix("@")


def _file(name: str, text: str) -> Path:
    path = Path(text[1:]).expanduser()
    if not path.is_file():
        raise Refused(f"input.{name}: there is no file {str(path)!r}.")
    return path
