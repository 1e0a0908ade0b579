"""What schemathesis, a process of its own, is told of the market that it calls: real ids.

An id that nobody has answers 404 everywhere, and nothing behind it would be tried. BELONGINGS
(JSON, {parameter: [values]}) are used in three of four calls that are meant to be right; keys are
used up one by one, since they are revoked and rotated.
"""

import json
import os
import zlib
from typing import Any

import schemathesis

_IDS: dict[str, list[str]] = json.loads(os.environ["BELONGINGS"])


def _chosen(ids: dict[str, list[str]], name: str, value: str) -> str:
    """Return a real value, or what was generated: by the value itself, so that runs repeat."""
    drawn = zlib.crc32(f"{name}:{value}".encode())
    return value if drawn % 4 == 0 else ids[name][(drawn >> 2) % len(ids[name])]


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Name real things in the path, where the call is meant to be right."""
    if case.meta is None or case.meta.generation.mode.value == "positive":
        given = dict(case.path_parameters or {})
        ids = dict(_IDS)
        if case.path.endswith("/events"):  # a stream of a job that goes on ends in an hour
            ids["job_id"] = _IDS["ended_job_id"]
        for name, value in given.items():
            if name in ids:
                given[name] = _chosen(ids, name, str(value))
        case.path_parameters = given
        body = case.body
        if isinstance(body, dict) and "model" in body:
            case.body = {**body, "model": _chosen(ids, "model", str(body["model"]))}
    return case
