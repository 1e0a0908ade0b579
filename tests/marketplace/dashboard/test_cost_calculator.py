"""What many calls cost: exact, by the price's own scheme, without scripts as well."""

from decimal import Decimal

import pytest

from billing.rating import PriceTerms
from marketplace.catalog import services as catalog
from marketplace.catalog.models import Price, Version
from marketplace.dashboard.calculator import Calculator, cost_of_calls
from tests.cast import listed_version

MODEL = "/models/atelier/sketch/"
ONE = {"images": 1, "steps": 4}


def terms(**changes):
    given = {"unit": "image", "unit_price": Decimal("0.004"), "minimum": Decimal(0), "tiers": []}
    return PriceTerms.from_parts(
        **{"scheme": "flat", "package_size": None} | given | changes  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("free", "calls", "nano"),
    [
        (0, 1, 4_000_000),
        (0, 10_000, 40_000_000_000),
        (10, 10, 0),
        (10, 11, 4_000_000),
        (10, 100, 90 * 4_000_000),
    ],
)
def test_free_units_are_used_up_before_anything_is_paid(free, calls, nano):
    assert cost_of_calls(terms(), ONE, Decimal(free), calls) == nano


def test_a_call_that_is_partly_free_pays_the_rest():
    three = {"images": 3}
    assert cost_of_calls(terms(), three, Decimal(4), 2) == 2 * 4_000_000


def test_each_call_has_its_own_minimum_and_packages():
    assert cost_of_calls(terms(minimum=Decimal("0.01")), ONE, Decimal(0), 100) == 1_000_000_000
    packed = terms(unit="step", scheme="package", package_size=Decimal(30))
    assert cost_of_calls(packed, ONE, Decimal(0), 10) == 40_000_000


def test_the_page_shows_the_table_at_the_defaults(visitor, cast):
    page = visitor.get(MODEL).content.decode()
    assert '<th scope="row">10,000</th><td class="num">$40.00</td>' in page
    assert 'name="calc-num_images"' in page
    assert 'name="calc-width"' not in page  # the price does not count it


def test_the_form_works_without_scripts(visitor, cast):
    page = visitor.get(f"{MODEL}?calc-num_images=3&calc-calls=50").content.decode()
    assert '<th scope="row">50</th><td class="num">$0.60</td>' in page
    assert 'name="calc-num_images" value="3"' in page


def test_the_fragment_is_the_same_table(visitor, cast):
    answer = visitor.get(f"{MODEL}costs/?calc-num_images=2&calc-calls=7")
    assert b"<html" not in answer.content
    assert b'<th scope="row">7</th><td class="num">$0.056</td>' in answer.content


@pytest.mark.parametrize("query", ["calc-num_images=99", "calc-num_images=x", "calc-calls=0"])
def test_amounts_that_the_model_does_not_take_are_refused_in_words(visitor, cast, query):
    page = visitor.get(f"{MODEL}costs/?{query}").content
    assert b"does not take these amounts" in page
    assert b"$" not in page


@pytest.mark.parametrize(
    ("unit", "fields"),
    [
        ("megapixel", {"num_images", "width", "height"}),
        ("step", {"num_images", "num_inference_steps"}),
        ("gpu_second", set()),
        ("request", set()),
        ("character", {"prompt"}),
    ],
)
def test_only_what_the_price_counts_is_asked(visitor, cast, unit, fields):
    listed_version(cast.vendor, cast.licence, cast.sam, name="other", unit=unit, price="0.001")
    page = visitor.get("/models/atelier/other/").content.decode()
    found = {name for name in (*fields, "num_images", "seed") if f'name="calc-{name}"' in page}
    assert found == fields


def test_characters_are_counted_by_their_number(visitor, cast):
    listed_version(
        cast.vendor, cast.licence, cast.sam, name="other", unit="character", price="0.001"
    )
    page = visitor.get("/models/atelier/other/costs/?calc-prompt=50&calc-calls=2").content
    assert b'<th scope="row">2</th><td class="num">$0.10</td>' in page


def test_a_prompt_longer_than_any_input_costs_nothing_to_work_out(cast):
    prompt = {"type": "string", "maxLength": 10**15, "minLength": 10**14}
    schema = {"type": "object", "required": ["prompt"], "properties": {"prompt": prompt}}
    version = Version(input_schema=schema, model=cast.version.model)
    price = Price(version=version, unit="character", unit_price=Decimal("0.001"))
    assert Calculator(version, price, {}).costs() == []
    assert Calculator(version, price, {"calc-prompt": str(10**14)}).costs() == []


def test_a_customer_sees_the_price_that_it_has_agreed(bob, visitor, cast):
    catalog.price_set(
        version=cast.version, unit="image", unit_price=Decimal("0.001"), for_org=cast.developer
    )
    assert b"$10.00" in bob.get(f"{MODEL}costs/").content
    assert b"$40.00" in visitor.get(f"{MODEL}costs/").content


def test_a_model_that_nobody_may_read_has_no_costs(visitor, cast):
    listed_version(cast.vendor, cast.licence, cast.sam, name="secret", visibility="private")
    assert visitor.get("/models/atelier/nothing/costs/").status_code == 404
