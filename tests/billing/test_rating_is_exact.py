"""Prices and quantities become charges that explain themselves."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating import PriceTerms, RatingError, clamp, quantity_of

money = st.decimals(min_value=0, max_value=100, places=9, allow_nan=False)
quantity = st.decimals(min_value=0, max_value=10_000, places=6, allow_nan=False)


def terms(unit_price, *, minimum=0, tiers=(), unit="image"):
    return PriceTerms.from_parts(
        unit=unit, unit_price=unit_price, minimum=minimum, tiers=list(tiers)
    )


GRADUATED = [
    {"up_to": "2", "unit_price": "0.0015"},
    {"up_to": "10", "unit_price": "0.001"},
    {"up_to": None, "unit_price": "0.0005"},
]


@pytest.mark.parametrize(
    ("count", "nano"), [(0, 0), (1, 1_500_000), (2, 3_000_000), (3, 4_000_000), (12, 12_000_000)]
)
def test_tiers_are_graduated(count, nano):
    assert terms(0, tiers=GRADUATED).rate(count).amount_nano == nano


def test_a_minimum_fills_up_and_says_so():
    rating = terms("0.001", minimum="0.01").rate(3)
    assert rating.amount_nano == 10_000_000
    assert [line.what for line in rating.lines] == ["image", "minimum"]


def test_nothing_used_costs_nothing_whatever_the_minimum():
    assert terms("0.001", minimum="0.01").rate(0).amount_nano == 0


def test_half_a_nano_rounds_to_even():
    assert terms("0.0000000005").rate(1).amount_nano == 0
    assert terms("0.0000000015").rate(1).amount_nano == 2


@given(money, quantity)
def test_the_lines_add_up_to_the_charge(price, count):
    rating = terms(price, tiers=[]).rate(count)
    exact = sum((Decimal(line.amount_usd) for line in rating.lines), Decimal(0))
    assert abs(exact * 10**9 - rating.amount_nano) <= Decimal("0.5")


@given(money, money, quantity, quantity)
def test_more_never_costs_less(first, second, one, other):
    tiers = [{"up_to": "5", "unit_price": str(first)}, {"up_to": None, "unit_price": str(second)}]
    rated = terms(0, tiers=tiers)
    low, high = sorted((one, other))
    assert rated.rate(low).amount_nano <= rated.rate(high).amount_nano


@given(money, quantity, st.integers(min_value=0, max_value=10**12))
def test_no_charge_is_above_its_quote_and_the_lines_still_add_up(price, count, quote):
    rating = clamp(terms(price).rate(count), quote)
    assert rating.amount_nano <= quote
    exact = sum((Decimal(line.amount_usd) for line in rating.lines), Decimal(0))
    assert abs(exact * 10**9 - rating.amount_nano) <= 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"unit": "banana"}, "unit"),
        ({"unit_price": "-1"}, "unit_price"),
        ({"unit_price": "NaN"}, "unit_price"),
        ({"unit_price": "Infinity"}, "unit_price"),
        ({"unit_price": 0.1}, "unit_price"),
        ({"unit_price": "a lot"}, "unit_price"),
        ({"unit_price": "10001"}, "unit_price"),
        ({"minimum": "-0.1"}, "minimum"),
        ({"tiers": [{"up_to": "5", "unit_price": "1"}]}, "tiers"),
        ({"tiers": [{"up_to": None, "unit_price": "1"}] * 2}, "tiers"),
        ({"tiers": [{"up_to": None}]}, "tiers"),
        (
            {
                "tiers": [
                    {"up_to": "5", "unit_price": "1"},
                    {"up_to": "4", "unit_price": "1"},
                    {"up_to": None, "unit_price": "1"},
                ]
            },
            "tiers",
        ),
    ],
)
def test_a_senseless_price_is_refused_by_field(change, field):
    parts = {"unit": "image", "unit_price": "1", "minimum": "0", "tiers": []} | change
    with pytest.raises(RatingError) as refusal:
        PriceTerms.from_parts(**parts)
    assert refusal.value.field == field


def test_one_call_never_costs_more_than_a_million_dollars():
    with pytest.raises(RatingError):
        terms("10000").rate(1000)


def test_gpu_seconds_come_from_engine_milliseconds():
    assert quantity_of("gpu_second", {"engine_ms": 1234}) == Decimal("1.234")
