"""Turns rows into the JSON of API v1."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.conf import settings

from billing.selectors import Balance, Day
from marketplace.accounts.models import ApiKey
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Model, Price, Version
from marketplace.jobs import selectors
from marketplace.jobs.models import File, Job


def price(row: Price | None) -> dict[str, Any] | None:
    """Return a price."""
    if row is None:
        return None
    return {
        "unit": row.unit,
        "unit_price_usd": f"{row.unit_price.normalize():f}",
        "minimum_usd": f"{row.minimum.normalize():f}",
        "tiers": row.tiers,
    }


def version(row: Version, prices: Mapping[Any, Price]) -> dict[str, Any]:
    """Return a version with its current price, found in `prices` by version."""
    return {
        "id": row.pk,
        "number": row.number,
        "family": row.family,
        "hardware_class": row.hardware_class,
        "weights_digest": row.weights_digest,
        "input_schema": row.input_schema,
        "price": price(prices.get(row.pk)),
        "licence": {
            "title": row.licence.title,
            "kind": row.licence.kind,
            "number": row.licence.number,
            "text_digest": row.licence.text_digest,
            "revenue_share_bps": row.licence.revenue_share_bps,
            "royalty_bps": row.licence.royalty_bps,
        },
        "base": str(row.base) if row.base else None,
        "lora": row.lora,
        "listed_at": row.listed_at,
    }


def model(row: Model, prices: Mapping[Any, Price]) -> dict[str, Any]:
    """Return a listing with its newest listed version and that version's price."""
    current = catalog.listed_version(row)
    return {
        "id": row.pk,
        "model": row.ref,
        "vendor": row.org.slug,
        "name": row.name,
        "title": row.title,
        "summary": row.summary,
        "description": row.description,
        "task": row.task,
        "created_at": row.created_at,
        "version": version(current, prices) if current else None,
    }


def output(row: File) -> dict[str, Any]:
    """Return an output with a fresh signed URL."""
    return {
        "id": row.pk,
        "url": selectors.file_url(row, settings.FILE_URL_TTL_S),
        "content_type": row.content_type,
        "size": row.size,
        "sha256": row.sha256,
        "width": row.width,
        "height": row.height,
        "seconds": row.seconds,
    }


def job(row: Job, *, with_position: bool = False) -> dict[str, Any]:
    """Return a job. The queue position costs a query, so lists leave it out."""
    base = f"{settings.PUBLIC_URL}/v1/jobs/{row.pk}"
    error = {"code": row.error_code, "message": row.error_message} if row.error_code else None
    return {
        "id": str(row.pk),
        "status": row.status,
        "model": str(row.version),
        "input": row.input,
        # Only ended jobs have outputs: asking for them would cost a query on every submission.
        "outputs": [output(file) for file in row.outputs.all()] if row.is_ended else [],
        "result": row.result,
        "error": error,
        "quote_nano_usd": row.quote_nano,
        "charge_nano_usd": row.charge_nano,
        "queue_position": selectors.queue_position(row) if with_position else None,
        "attempt": row.attempt,
        "usage": row.usage,
        "timings_ms": row.timings_ms,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "deadline_at": row.deadline_at,
        "urls": {"get": base, "cancel": f"{base}/cancel", "events": f"{base}/events"},
    }


def key(row: ApiKey) -> dict[str, Any]:
    """Return a key without its secret."""
    return {
        "id": row.pk,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "project": row.project_id,
        "monthly_budget_nano_usd": row.monthly_budget_nano,
        "allowed_models": row.allowed_models,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
        "created_at": row.created_at,
    }


def file(row: File) -> dict[str, Any]:
    """Return a stored file."""
    return {
        "id": row.pk,
        "name": row.name,
        "content_type": row.content_type,
        "size": row.size,
        "url": selectors.file_url(row, settings.FILE_URL_TTL_S),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
    }


def balance(value: Balance) -> dict[str, int]:
    """Return a balance."""
    return {name.replace("_nano", "_nano_usd"): nano for name, nano in asdict(value).items()}


def days(values: list[Day]) -> list[dict[str, Any]]:
    """Return sums by day."""
    return [{"day": d.day, "count": d.count, "amount_nano_usd": d.amount_nano} for d in values]
