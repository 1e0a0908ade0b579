"""What the pages of the listing wizard show of the rows: steps, test runs, splits, margins."""

import contextlib
from decimal import Decimal
from typing import Any

from django.conf import settings

from billing.rating import PriceTerms, RatingError
from billing.split import ChainError, split
from marketplace.catalog import chains, costs, listing
from marketplace.catalog import selectors as catalog
from marketplace.catalog.listing_models import ListingDraft
from marketplace.catalog.models import Price, Status, Version
from marketplace.catalog.samples import samples_of
from marketplace.core.errors import InvalidInput, MarketError
from marketplace.dashboard import present
from marketplace.jobs import selectors as jobs
from marketplace.jobs.draft_runs import Measured, charge_at, draft_runs_of, measured
from marketplace.jobs.models import Job

DOLLAR_NANO = 10**9
_TITLES = {
    "about": "About",
    "weights": "Weights",
    "inputs": "Inputs",
    "terms": "Terms",
    "test": "Test run",
    "samples": "Samples",
    "price": "Price",
    "review": "Review",
}


def drafted(draft: ListingDraft, schema: dict[str, Any]) -> Version:
    """Return the version that the draft describes so far, with `schema`; nothing is written."""
    version = Version(
        model=draft.model,
        number=0,
        weights_digest=draft.weights.get("digest", ""),
        lora=draft.weights.get("lora", False),
        family=draft.inputs.get("family", ""),
        input_schema=schema,
    )
    base = draft.terms.get("base", "")
    if version.lora and base:
        with contextlib.suppress(MarketError):  # withdrawn meanwhile: the test run says so
            version.base = catalog.version_runnable(ref=base, org=draft.org)
    return version


def steps(found: list[listing.Step], current: str = "about") -> list[dict[str, Any]]:
    """Return the steps with their titles; `here` is the one whose page it is."""
    return [
        {
            "name": step.name,
            "title": _TITLES[step.name],
            "number": number,
            "done": step.done,
            "open": step.open,
            "here": step.name == current,
        }
        for number, step in enumerate(found, start=1)
    ]


def run(job: Job, kept: set[Any]) -> dict[str, Any]:
    """Return a test run with its pictures, its time on the device and what that cost."""
    engine_ms = int(job.usage.get("engine_ms", 0))
    pictures = [
        {"file": file, "url": jobs.file_url(file, settings.FILE_URL_TTL_S), "kept": file.pk in kept}
        for file in job.outputs.all()
        if file.deleted_at is None
    ]
    return {
        "job": job,
        "pictures": pictures,
        "prompt": str(job.input.get("prompt", "")),
        "engine_s": engine_ms / 1000,
        "cost_nano": costs.cost_nano(engine_ms, job.queue.removeprefix("gpu.")),
    }


def split_context(draft: ListingDraft, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return who gets what of a $1 call, or why nobody can be paid and who asks for what."""
    try:
        version, others = listing.chain_preview(draft=draft, **arguments)
    except MarketError as error:
        return {"refused": error.message}
    try:
        chain = chains.chain_check(version, others)
    except ChainError as error:
        return {
            "refused": str(error),
            "shared_bps": version.licence.revenue_share_bps,
            "claims": [
                (row, row.licence.royalty_bps)
                for row in chains.made_from(version, others)
                if row.licence.royalty_bps
            ],
        }
    amounts, left = split(DOLLAR_NANO, list(chain.shares))
    parts = present.split_of(chain, settings.SITE_NAME)
    return {"split": parts, "dollars": list(zip(parts, [*amounts, left], strict=True))}


def price_initial(price: Price | None) -> dict[str, Any]:
    """Return what the form of a price shows of the one that holds."""
    if price is None:
        return {}
    bounds = [f"{tier['up_to'] or 'more'}: {tier['unit_price']}" for tier in price.tiers]
    return {
        "unit": price.unit,
        "scheme": price.scheme,
        "unit_price": price.unit_price.normalize() if not price.tiers else None,
        "package_size": price.package_size,
        "tiers": "\n".join(bounds),
        "minimum": price.minimum.normalize() if price.minimum else None,
        "free_quota": price.free_quota.normalize() if price.free_quota else None,
    }


def unsaved(draft: ListingDraft, form: Any) -> Price:
    """Return the price that a valid form describes, not written. Raises InvalidInput."""
    given = form.arguments()
    given["org"] = given.pop("for_org")
    price = Price(version=draft.version, **given)
    try:
        PriceTerms.from_parts(
            unit=price.unit,
            unit_price=price.unit_price,
            minimum=price.minimum,
            tiers=price.tiers,
            scheme=price.scheme,
            package_size=price.package_size,
        )
    except RatingError as error:
        raise InvalidInput(str(error), fields={error.field: [str(error)]}) from error
    return price


def measured_of(draft: ListingDraft) -> Measured | None:
    """Return what the draft's test runs took."""
    return measured(draft.version, draft_runs_of(draft.version)) if draft.version else None


def margin_context(draft: ListingDraft, price: Price) -> dict[str, Any]:
    """Return a worked example: a call like the middle test run, at `price`."""
    took = measured_of(draft)
    if took is None or draft.version is None:
        return {"price_words": present.price_words(price)}
    try:
        rating = charge_at(price, took.usage)
    except (MarketError, RatingError) as error:
        return {"price_words": present.price_words(price), "margin_problem": str(error)}
    chain = chains.chain_of(draft.version)
    amounts, platform = split(rating.amount_nano, list(chain.shares))
    mine = sum(
        amount
        for share, amount in zip(chain.shares, amounts, strict=True)
        if share.org_id == str(draft.org_id)
    )
    hourly = costs.hourly_usd(draft.version.hardware_class)
    return {
        "price_words": present.price_words(price),
        "lines": rating.lines_json(),
        "charge_nano": rating.amount_nano,
        "mine_nano": mine,
        "others_nano": sum(amounts) - mine,
        "platform_nano": platform,
        "engine_s": Decimal(took.engine_ms) / 1000,
        "hourly": present.dollars(hourly) if hourly is not None else "",
        "margin": costs.Margin(rating.amount_nano, took.cost_nano)
        if took.cost_nano is not None
        else None,
        "runs_count": took.runs,
    }


def review_context(draft: ListingDraft) -> dict[str, Any]:
    """Return all that staff will see, and what they have said."""
    version = draft.version
    if version is None:
        return {"decisions": []}
    price = catalog.price_current(version)
    decisions = list(version.decisions.select_related("by"))
    last = decisions[-1] if decisions else None
    return {
        "price_words": present.price_words(price),
        "rows": samples_of([version]).get(version.pk, []),
        "decisions": decisions,
        "sent_back": last if last and last.after == Status.DRAFT and last.note else None,
        "split": present.split_of(chains.chain_of(version), settings.SITE_NAME),
        "fields": present.schema_rows(version.input_schema),
        "parents": catalog.parents_of(version),
    }
