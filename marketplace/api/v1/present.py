"""Turns rows into the JSON of API v1."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.conf import settings

from billing.selectors import Balance, Day, charge_of
from marketplace.accounts.models import ApiKey, Organisation
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Licence, LicenceAcceptance, Model, Price, Version
from marketplace.jobs import requests, retention, selectors
from marketplace.jobs.models import File, Job


def price(row: Price | None) -> dict[str, Any] | None:
    """Return a price."""
    if row is None:
        return None
    return {
        "unit": row.unit,
        "scheme": row.scheme,
        "unit_price_usd": f"{row.unit_price.normalize():f}",
        "package_size": f"{row.package_size.normalize():f}" if row.package_size else None,
        "minimum_usd": f"{row.minimum.normalize():f}",
        "tiers": row.tiers,
        "free_quota": f"{row.free_quota.normalize():f}",
        "negotiated": row.org_id is not None,
        "ends_at": row.ends_at,
    }


def licence(row: Licence) -> dict[str, Any]:
    """Return terms without their text."""
    return {
        "id": row.pk,
        "title": row.title,
        "kind": row.kind,
        "number": row.number,
        "text_digest": row.text_digest,
        "revenue_share_bps": row.revenue_share_bps,
        "royalty_bps": row.royalty_bps,
        "must_be_accepted": row.must_be_accepted,
    }


def version(row: Version, prices: Mapping[Any, Price]) -> dict[str, Any]:
    """Return a version with its current price, found in `prices` by version."""
    end = catalog.retirement_of(row)
    return {
        "id": row.pk,
        "number": row.number,
        "family": row.family,
        "hardware_class": row.hardware_class,
        "weights_digest": row.weights_digest,
        "input_schema": row.input_schema,
        "price": price(prices.get(row.pk)),
        "licence": licence(row.licence),
        "base": str(row.base) if row.base else None,
        "parents": [str(link.parent) for link in row.parent_links.all()],
        "lora": row.lora,
        "listed_at": row.listed_at,
        "ends_at": end.ends_at if end else None,
        "end_note": end.note if end else "",
    }


def acceptance(row: LicenceAcceptance) -> dict[str, Any]:
    """Return an acceptance."""
    return {
        "id": row.pk,
        "licence": row.licence_id,
        "text_digest": row.text_digest,
        "declared_use": row.declared_use,
        "accepted_at": row.accepted_at,
    }


def model(
    row: Model, prices: Mapping[Any, Price], org: Organisation | None = None
) -> dict[str, Any]:
    """Return a listing with the version that it means to `org`, and that version's price."""
    current = catalog.listed_version(row, org)
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
        "nsfw": row.nsfw,
    }


def job(row: Job, *, with_position: bool = False, with_lines: bool = False) -> dict[str, Any]:
    """Return a job. Queue position and lines of the charge cost a query: lists leave them out."""
    base = f"{settings.PUBLIC_URL}/v1/jobs/{row.pk}"
    charge = charge_of(row.pk) if with_lines and row.is_ended else None
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
        "charge_lines": charge.lines if charge else None,
        "queue_position": selectors.queue_position(row) if with_position else None,
        "attempt": row.attempt,
        "usage": row.usage,
        "timings_ms": row.timings_ms,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "purged_at": row.purged_at,
        "deadline_at": row.deadline_at,
        "start_by": row.start_by,
        "priority": requests.LOW if row.priority < 0 else requests.NORMAL,
        "data_expires_at": retention.goes_at(row),
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
        "rotated_at": row.rotated_at,
        "old_secret_until": row.before_until if row.is_rotating else None,
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
