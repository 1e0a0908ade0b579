"""Flat, graduated, volume and package prices: what they cost, and what a quote promises."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating import NANO, SCHEMES, UNITS, PriceTerms, RatingError, clamp, quantity_of

money = st.decimals(min_value=0, max_value=100, places=12, allow_nan=False)
quantity = st.decimals(min_value=0, max_value=10_000, places=6, allow_nan=False)


@st.composite
def tiers(draw):
    bounds = sorted(
        draw(
            st.lists(
                st.decimals(min_value="0.000001", max_value=5000, places=6), max_size=5, unique=True
            )
        )
    )
    prices = draw(st.lists(money, min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    return [
        {"up_to": None if bound is None else str(bound), "unit_price": str(price)}
        for bound, price in zip([*bounds, None], prices, strict=True)
    ]


@st.composite
def prices(draw, schemes=SCHEMES):
    scheme = draw(st.sampled_from(schemes))
    minimum = draw(st.one_of(st.just(Decimal(0)), money))
    parts = {"unit": draw(st.sampled_from(sorted(UNITS))), "minimum": minimum, "scheme": scheme}
    if scheme in ("graduated", "volume"):
        parts |= {"unit_price": 0, "tiers": draw(tiers())}
    else:
        parts["unit_price"] = draw(money)
    if scheme == "package":
        parts["package_size"] = draw(st.decimals(min_value=2, max_value=1000, places=6))
    return PriceTerms.from_parts(**parts)


VOLUME = PriceTerms.from_parts(
    unit="image",
    unit_price=0,
    scheme="volume",
    tiers=[{"up_to": "10", "unit_price": "0.01"}, {"up_to": None, "unit_price": "0.006"}],
)
PACKAGE = PriceTerms.from_parts(unit="step", unit_price="0.05", scheme="package", package_size="30")


@pytest.mark.parametrize(("count", "usd"), [(1, "0.01"), (10, "0.10"), (11, "0.066")])
def test_a_volume_price_counts_for_the_whole_quantity(count, usd):
    assert VOLUME.rate(count).amount_nano == Decimal(usd) * NANO


def test_the_quote_of_a_volume_price_is_its_dearest_quantity():
    quote = VOLUME.quote(12)
    assert quote.amount_nano == 100_000_000
    assert quote.lines[0].quantity == "10"


@pytest.mark.parametrize(("count", "packages"), [(0, 0), (1, 1), (30, 1), (31, 2), (60, 2)])
def test_a_begun_package_is_paid_whole(count, packages):
    rating = PACKAGE.rate(count)
    assert rating.amount_nano == packages * 50_000_000
    if packages:
        assert rating.lines[0].what == "package of 30 steps"


def test_free_units_come_first_and_are_on_a_line():
    rating = VOLUME.rate(12, free=4)
    assert rating.amount_nano == 80_000_000
    assert [line.what for line in rating.lines] == ["image, free this month", "image"]


def test_what_is_wholly_free_has_no_minimum():
    terms = PriceTerms.from_parts(unit="image", unit_price="0.01", minimum="1")
    assert terms.rate(3, free=3).amount_nano == 0
    assert terms.rate(4, free=3).amount_nano == 10**9


@given(prices(), quantity, quantity)
def test_the_lines_add_up_exactly(terms, count, free):
    rating = terms.rate(count, free)
    exact = rating.exact_usd * NANO
    assert abs(exact - rating.amount_nano) <= Decimal("0.5")
    for line in rating.lines:
        assert Decimal(line.quantity) * Decimal(line.unit_price_usd) == Decimal(line.amount_usd)


@given(prices(), quantity, quantity, quantity)
def test_no_usage_within_the_bound_costs_more_than_the_quote(terms, one, other, free):
    used, bound = sorted((one, other))
    assert terms.rate(used, free).amount_nano <= terms.quote(bound, free).amount_nano


@given(prices(), quantity, quantity)
def test_a_quote_is_the_charge_of_some_usage_within_the_bound(terms, bound, free):
    quote = terms.quote(bound, free)
    ends = {min(bound, tier.up_to + min(free, bound)) for tier in terms.tiers if tier.up_to}
    assert quote.amount_nano in {terms.rate(q, free).amount_nano for q in {*ends, bound}}


@given(prices(("flat", "graduated", "package")), quantity, quantity, quantity)
def test_more_never_costs_less_but_by_volume(terms, one, other, free):
    low, high = sorted((one, other))
    assert terms.rate(low, free).amount_nano <= terms.rate(high, free).amount_nano


@given(prices(), quantity, quantity, quantity)
def test_more_free_units_never_cost_more_but_by_volume(terms, count, one, other):
    low, high = sorted((one, other))
    if terms.scheme == "volume":
        return
    assert terms.rate(count, high).amount_nano <= terms.rate(count, low).amount_nano


@given(prices(("graduated",)), quantity)
def test_graduated_tiers_have_no_jump(terms, count):
    step = Decimal("0.000001")
    low, high = terms.rate(count).amount_nano, terms.rate(count + step).amount_nano
    dearest = max(tier.unit_price for tier in terms.tiers)
    # From nothing to something the minimum may jump, and each side is rounded once.
    jump = terms.minimum * NANO if count == 0 else 0
    assert high - low <= max(jump, dearest * step * NANO) + 1


@given(prices(), quantity, quantity)
def test_rating_again_gives_the_same(terms, count, free):
    assert terms.rate(count, free) == terms.rate(count, free)


@given(prices(), quantity, st.integers(0, 10**12))
def test_a_clamped_charge_is_the_quote_and_its_lines_say_so(terms, count, quote):
    rating = terms.rate(count)
    clamped = clamp(rating, quote)
    assert clamped.amount_nano == min(rating.amount_nano, quote)
    if rating.amount_nano > quote:
        assert clamped.exact_usd * NANO == quote


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scheme": "auction"}, "scheme"),
        ({"scheme": "volume"}, "tiers"),
        ({"scheme": "graduated"}, "tiers"),
        ({"scheme": "flat", "tiers": [{"up_to": None, "unit_price": "1"}]}, "tiers"),
        ({"scheme": "package"}, "package_size"),
        ({"scheme": "package", "package_size": "0"}, "package_size"),
        ({"scheme": "flat", "package_size": "2"}, "package_size"),
        ({"unit_price": "0.0000000000001"}, "unit_price"),
        ({"tiers": ["all"]}, "tiers"),
        ({"tiers": [{"up_to": None, "unit_price": "1E+400"}]}, "tiers"),
    ],
)
def test_a_senseless_scheme_is_refused_by_field(change, field):
    with pytest.raises(RatingError) as refusal:
        PriceTerms.from_parts(**({"unit": "image", "unit_price": "1"} | change))
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("unit", "count"),
    [("frame", 48), ("request", 1), ("character", 17), ("image", 2), ("step", 8)],
)
def test_each_unit_reads_its_own_measure(unit, count):
    usage = {"frames": 48, "requests": 1, "characters": 17, "images": 2, "steps": 8}
    assert quantity_of(unit, usage) == count
