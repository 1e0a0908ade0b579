"""Stripe's form encoding: nested brackets and arrays in urlencoded bodies and query strings."""

from __future__ import annotations

import re
from typing import TypeAlias
from urllib.parse import parse_qsl

from marketplace.local.stripe_standin.errors import ApiError

Form: TypeAlias = "str | list[Form] | dict[str, Form]"

_KEY = re.compile(r"\A([^\[\]]+)((?:\[[^\[\]]*\])*)\Z")
_PART = re.compile(r"\[([^\[\]]*)\]")
_MAX_DEPTH = 10


def decode(text: str) -> dict[str, Form]:
    """Decode `a[b]=1&c[]=x&d[0][e]=y` into nested dicts, lists and strings.

    A mapping whose keys are 0, 1, 2 … becomes a list. Raises ApiError for a malformed key or
    for a key used both as a value and as a container.
    """
    root: dict[str, Form] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        match = _KEY.match(key)
        if match is None:
            raise ApiError(f"Invalid parameter name: {key}", param=key)
        parts = [match[1], *_PART.findall(match[2])]
        if len(parts) > _MAX_DEPTH:
            raise ApiError(f"Parameter nested too deep: {key}", param=key)
        _insert(root, parts, value, key)
    return {name: _lists(value) for name, value in root.items()}


def _insert(root: dict[str, Form], parts: list[str], value: str, key: str) -> None:
    here = root
    for depth, part in enumerate(parts):
        name = part or str(len(here))
        if depth == len(parts) - 1:
            if isinstance(here.get(name), dict):
                raise ApiError(f"Parameter given as value and as hash: {key}", param=parts[0])
            here[name] = value
            return
        child = here.setdefault(name, {})
        if not isinstance(child, dict):
            raise ApiError(f"Parameter given as value and as hash: {key}", param=parts[0])
        here = child


def _lists(value: Form) -> Form:
    if not isinstance(value, dict):
        return value
    inner = {name: _lists(child) for name, child in value.items()}
    if inner and all(name == str(index) for index, name in enumerate(inner)):
        return list(inner.values())
    return inner
