"""What a test run of a draft costs: nothing of one's own, of others' what their models cost."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings

from billing.split import WHOLE, Share
from marketplace.accounts.models import Organisation, User
from marketplace.catalog import acceptance, chains, services, weights
from marketplace.catalog import selectors as catalog
from marketplace.catalog.listing_models import TestRun
from marketplace.catalog.models import Price, Version
from marketplace.catalog.pricing import draft_price
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.jobs import loras, quoting
from marketplace.jobs.models import Job


@dataclass(frozen=True, slots=True)
class DraftTerms:
    """The price of a test run, and who gets which part of it."""

    price: Price
    shares: list[Share]


def engine_s(version: Version) -> int:
    """Return the most seconds on the device that a test run of `version` may take."""
    most: int = settings.TEST_RUN_MAX_ENGINE_S
    return min(version.max_engine_s, most)


def engine_limit(job: Job) -> int:
    """Return the most seconds on the device of any job: a test run has a limit of its own."""
    listed_at = job.version.listed_at
    is_early = listed_at is None or job.created_at < listed_at  # else nothing need be asked
    if is_early and TestRun.objects.filter(job_id=job.pk).exists():
        return engine_s(job.version)
    return job.version.max_engine_s


def _dearest(
    org: Organisation, version: Version, foreign: list[Version], bound: dict[str, Any]
) -> tuple[Version, Price]:
    """Return whichever of `foreign` a call with this input would cost most of, and its price."""
    quotes = []
    for parent in foreign:
        price = catalog.price_current(parent, org)
        if price is None:
            continue
        try:
            services.check_unit(version, price.unit)
        except InvalidInput as error:
            why = f"A test run is charged as {parent} is, per {price.unit}. {error.message}"
            raise WrongState(why) from error
        quotes.append((quoting.quote(catalog.terms(price), bound).amount_nano, parent, price))
    if not quotes:
        raise WrongState(f"{foreign[0]} has no price, so what is made from it cannot be tried.")
    _, parent, price = max(quotes, key=lambda quote: quote[0])
    return parent, price


def _shares(org: Organisation, chain: chains.Chain, paid: Version) -> list[Share]:
    """Return the shares of a call of `paid`, and the royalties of what else `chain` has."""
    there = chains.chain_of(paid)
    inside = {str(row.pk) for row in (paid, *there.ancestors)}
    others = [
        share
        for share in chain.shares
        if share.version_id not in inside and share.org_id != str(org.pk)
    ]
    found = [*there.shares, *others]
    if sum(share.bps for share in found) > WHOLE:
        raise WrongState("What this is made from asks for more than the whole of a test run.")
    return found


def terms_of(
    *, org: Organisation, version: Version, bound: dict[str, Any], by: User | None
) -> DraftTerms:
    """Return what a test run of `org`'s `version` costs. Raises NotAllowed, WrongState.

    A draft that is made from nobody else's is free. Else the licences must be accepted, and the
    run costs what a call of the dearest of those models would, for their vendors.
    """
    chain = chains.chain_of(version)
    foreign = [row for row in chain.ancestors if row.model.org_id != org.pk]
    if not foreign:
        return DraftTerms(draft_price(version, by=by), [])  # of nothing, nobody is owed a part
    acceptance.require(org, chain.licences)
    if version.lora and not catalog.base_runs(version):
        raise WrongState("The model that this LoRA changes is not listed any more.")
    paid, price = _dearest(org, version, foreign, bound)
    return DraftTerms(draft_price(version, by=by, like=price), _shares(org, chain, paid))


def check_weights(org: Organisation, version: Version) -> None:
    """Raise InvalidInput unless nobody's weights but `org`'s own run, or those it pays for.

    Nobody has reviewed a draft, so it may name less than a listed version.
    """
    ancestors = list(chains.chain_of(version).ancestors)
    weights.check_trial(org, version, ancestors)


def check_loras(values: dict[str, Any]) -> None:
    """Raise InvalidInput where a test run names LoRAs: it tries the draft alone."""
    if values.get(loras.FIELD):
        where = f"input.{loras.FIELD}"
        why = "A test run takes no LoRAs."
        raise InvalidInput(f"{where}: {why}", fields={where: [why]})
