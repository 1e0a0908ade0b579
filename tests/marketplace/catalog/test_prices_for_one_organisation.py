"""A negotiated price counts for its organisation alone; schemes are checked when they are set."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing.models import Charge
from marketplace.catalog import selectors, services
from marketplace.catalog.models import Price
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.money import to_nano
from marketplace.jobs import services as jobs
from tests.cast import SCHEMA, listed_version, report_finished

GIVEN = {"prompt": "a red circle"}


def negotiate(cast, usd="0.001", **extra):
    return services.price_set(
        version=cast.version,
        unit="image",
        unit_price=Decimal(usd),
        for_org=cast.developer,
        **extra,
    )


def quote(cast, org):
    return jobs.job_submit(org=org, ref=cast.ref, given=GIVEN)[0].quote_nano


def test_only_the_organisation_that_negotiated_pays_less(cast):
    negotiate(cast)
    job, _ = jobs.job_submit(org=cast.developer, ref=cast.ref, given=GIVEN)
    assert job.quote_nano == to_nano("0.001")
    assert selectors.price_current(cast.version, cast.stranger).unit_price == Decimal("0.004")
    jobs.job_finished(report_finished(job))
    assert Charge.objects.get(pk=job.pk).price_id == job.price_id


def test_a_later_public_price_leaves_the_negotiated_one(cast):
    negotiate(cast)
    services.price_set(version=cast.version, unit="image", unit_price=Decimal("0.5"))
    assert quote(cast, cast.developer) == to_nano("0.001")


def refused(cast, **extra):
    with pytest.raises(InvalidInput) as refusal:
        negotiate(cast, **extra)
    return list(refusal.value.fields)


def test_nobody_is_singled_out_with_a_higher_price(cast):
    before = quote(cast, cast.developer)
    assert refused(cast, usd="0.9") == ["unit_price"]
    assert refused(cast, minimum=Decimal("0.005")) == ["unit_price"]
    assert refused(cast, scheme="package", package_size=Decimal(1), usd="0.005") == ["unit_price"]
    graduated = [
        {"up_to": "10", "unit_price": "0.001"},
        {"up_to": None, "unit_price": "0.0041"},
    ]
    assert refused(cast, tiers=graduated) == ["unit_price"]
    assert quote(cast, cast.developer) == before
    negotiate(cast, "0.004")


def test_a_negotiated_price_is_comparable_with_the_public_one(cast):
    public = {"version": cast.version, "unit": "image", "unit_price": Decimal("0.004")}
    services.price_set(**public, free_quota=Decimal(5))
    assert refused(cast) == ["free_quota"]
    negotiate(cast, free_quota=Decimal(5))
    with pytest.raises(InvalidInput) as refusal:
        services.price_set(**public | {"unit": "request"}, for_org=cast.developer)
    assert list(refusal.value.fields) == ["unit"]


def test_a_lower_public_price_ends_the_negotiated_one(cast):
    negotiate(cast, "0.002")
    services.price_set(version=cast.version, unit="image", unit_price=Decimal("0.003"))
    assert quote(cast, cast.developer) == to_nano("0.002")
    services.price_set(version=cast.version, unit="image", unit_price=Decimal("0.001"))
    assert quote(cast, cast.developer) == to_nano("0.001")


def test_a_licence_leaves_the_market_its_part(cast, settings):
    def write(share):
        return services.licence_create(
            org=cast.vendor, slug="all", title="All", kind="open", text="t", revenue_share_bps=share
        )

    assert write(9500).revenue_share_bps == 9500
    with pytest.raises(InvalidInput, match="too large") as refusal:
        write(9501)
    assert refusal.value.fields == {
        "revenue_share_bps": ["At most 95 %: the market keeps the rest."]
    }
    settings.MAX_REVENUE_SHARE_BPS = 10_000
    assert write(10_000).revenue_share_bps == 10_000


def test_the_newest_negotiated_price_counts_until_it_ends(cast):
    negotiate(cast, "0.001")
    negotiate(cast, "0.002", ends_at=now() + timedelta(days=1))
    assert quote(cast, cast.developer) == to_nano("0.002")
    negotiate(cast, "0.003", ends_at=now() - timedelta(seconds=1))
    assert quote(cast, cast.developer) == to_nano("0.004")


def test_a_withdrawn_price_is_the_public_one_again_and_jobs_under_way_keep_theirs(cast):
    negotiate(cast)
    job, _ = jobs.job_submit(org=cast.developer, ref=cast.ref, given=GIVEN)
    services.price_withdraw(version=cast.version, for_org=cast.developer)
    assert quote(cast, cast.developer) == to_nano("0.004")
    jobs.job_finished(report_finished(job))
    job.refresh_from_db()
    assert job.charge_nano == to_nano("0.001")
    with pytest.raises(WrongState):
        services.price_withdraw(version=cast.version, for_org=cast.developer)


def test_the_api_shows_each_caller_its_price(cast, api, stranger_api):
    negotiate(cast)
    place = f"/v1/models/{cast.ref}"
    mine, theirs = api.get(place).json(), stranger_api.get(place).json()
    assert mine["version"]["price"]["unit_price_usd"] == "0.001"
    assert mine["version"]["price"]["negotiated"] is True
    assert theirs["version"]["price"]["unit_price_usd"] == "0.004"
    assert theirs["version"]["price"]["negotiated"] is False
    listed = api.get("/v1/models").json()["results"][0]
    assert listed["version"]["price"]["unit_price_usd"] == "0.004"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scheme": "volume"}, "tiers"),
        ({"scheme": "package"}, "package_size"),
        ({"free_quota": Decimal("-1")}, "free_quota"),
        ({"free_quota": Decimal("1e12")}, "free_quota"),
        ({"ends_at": now()}, "ends_at"),
        ({"unit": "frame"}, "unit"),
        ({"unit": "parsec"}, "unit"),
    ],
)
def test_a_senseless_price_is_refused_by_field(cast, change, field):
    before = Price.objects.count()
    with pytest.raises(InvalidInput) as refusal:
        services.price_set(
            version=cast.version, **({"unit": "image", "unit_price": Decimal(1)} | change)
        )
    assert list(refusal.value.fields) == [field]
    assert Price.objects.count() == before


def test_characters_need_a_prompt(cast):
    fields = {k: v for k, v in SCHEMA["properties"].items() if k != "prompt"}
    version = listed_version(
        cast.vendor,
        cast.licence,
        cast.sam,
        name="mute",
        input_schema={"type": "object", "properties": fields},
    )
    with pytest.raises(InvalidInput, match="prompt"):
        services.price_set(version=version, unit="character", unit_price=Decimal("0.0001"))


@pytest.mark.parametrize(
    ("unit", "price", "nano"),
    [
        ("request", "0.01", to_nano("0.01")),
        ("character", "0.0001", 12 * to_nano("0.0001")),
    ],
)
def test_new_units_are_charged_by_what_they_count(cast, unit, price, nano):
    services.price_set(version=cast.version, unit=unit, unit_price=Decimal(price))
    job, _ = jobs.job_submit(org=cast.developer, ref=cast.ref, given=GIVEN)
    jobs.job_finished(report_finished(job))
    job.refresh_from_db()
    assert (job.quote_nano, job.charge_nano) == (nano, nano)


def test_a_clip_is_charged_by_its_frames(cast):
    fields = {
        "num_frames": {"type": "integer", "minimum": 1, "maximum": 64, "default": 48},
        "fps": {"type": "integer", "minimum": 1, "maximum": 30, "default": 24},
    }
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], **fields}}
    version = listed_version(
        cast.vendor,
        cast.licence,
        cast.sam,
        name="clip",
        task="text-to-video",
        family="wan",
        unit="frame",
        price="0.001",
        input_schema=schema,
    )
    job, _ = jobs.job_submit(org=cast.developer, ref=version.model.ref, given=GIVEN)
    assert job.quote_nano == 48 * to_nano("0.001")
    jobs.job_finished(report_finished(job, seconds=1.5))
    job.refresh_from_db()
    assert job.charge_nano == 36 * to_nano("0.001")
