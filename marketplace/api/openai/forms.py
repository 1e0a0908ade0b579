"""Bodies as these clients send them: JSON, or forms with brackets, read into the same object."""

import base64
import re
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request

from marketplace.api.parsers import CleanJSONParser
from marketplace.core.errors import InvalidInput
from marketplace.core.text import check_storable

PARSERS = (CleanJSONParser, MultiPartParser)
"""The first is taken where a body does not say what it is."""
_NAME = re.compile(r"[^\[\]]+")
_INSIDE = re.compile(r"\[([^\[\]]*)\]")
_MAX_DEPTH = 8


def refuse(field: str, why: str, code: str = "invalid_input") -> InvalidInput:
    """Return the error that names `field`."""
    return InvalidInput(f"{field}: {why}", code=code, fields={field: [why]})


def read_body(request: Request) -> dict[str, Any]:
    """Return the body's fields; what is null is left out. Raises InvalidInput.

    A file is a data URI: so it is stored only once the call is known to be good, and the same
    request is the same again for an `Idempotency-Key`.
    """
    data: Any = request.data
    if isinstance(data, QueryDict):
        data = _of_form(data)
        try:
            check_storable(data)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
    if not isinstance(data, dict):
        raise InvalidInput("The body must be an object.")
    return {name: value for name, value in data.items() if value is not None}


def _of_form(form: QueryDict) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in form:
        values = [_part(key, value) for value in form.getlist(key)]
        name = _NAME.match(key)
        inside = _INSIDE.findall(key)
        if name is None or name[0] + "".join(f"[{step}]" for step in inside) != key:
            raise refuse(key[:80], "This is no name of a field.")
        if len(inside) > _MAX_DEPTH:
            raise refuse(key[:80], "It is nested too deeply.")
        _put(found, key, [name[0], *inside], values)
    return found


def _put(place: dict[str, Any], key: str, steps: list[str], values: list[Any]) -> None:
    """Set what `a[b]`, `a[]` or `a[][b]` names; the n-th `a[][b]` is of the n-th object."""
    step, *rest = steps
    listed = rest[:1] == [""]
    rest = rest[1:] if listed else rest
    if not rest:
        if step in place:
            raise refuse(key[:80], "It is given twice.")
        place[step] = values if listed or len(values) > 1 else values[0]
    elif listed:
        _put_each(place.setdefault(step, []), key, rest, values)
    else:
        inner = place.setdefault(step, {})
        if not isinstance(inner, dict):
            raise refuse(key[:80], "It is given as a value and as an object.")
        _put(inner, key, rest, values)


def _put_each(many: Any, key: str, rest: list[str], values: list[Any]) -> None:
    if not isinstance(many, list) or not all(isinstance(each, dict) for each in many):
        raise refuse(key[:80], "It is given as a value and as a list of objects.")
    if many and len(many) != len(values):
        # A form groups the fields by name, so nothing says which object lacks one.
        raise refuse(key[:80], "Give each object of the list the same fields.")
    many += [{} for _ in values[len(many) :]]
    for each, value in zip(many, values, strict=True):
        _put(each, key, rest, [value])


def _part(key: str, value: Any) -> Any:
    if not isinstance(value, UploadedFile):
        return value
    if (value.size or 0) > settings.INPUT_FETCH_MAX_BYTES:
        why = f"The file is larger than {settings.INPUT_FETCH_MAX_BYTES} bytes."
        raise refuse(key.removesuffix("[]")[:80], why, "file_too_large")
    return data_uri(value.read())


def data_uri(body: bytes) -> str:
    """Return bytes as a data URI; what they are, is seen from how they begin."""
    return "data:application/octet-stream;base64," + base64.b64encode(body).decode()
