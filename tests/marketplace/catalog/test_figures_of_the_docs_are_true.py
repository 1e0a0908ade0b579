"""The prices and splits that the docs work out are what the market computes."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from billing.rating import SCHEMES, UNITS, PriceTerms
from billing.split import MAX_ANCESTORS, MAX_DEPTH, Work, shares_of, split

DOCS = Path(__file__).parents[3] / "templates" / "docs"
PRICING = (DOCS / "pricing.md").read_text()
LICENCES = (DOCS / "licences.md").read_text()


def rows_of(text, first):
    """Return the cells of the table whose header begins with `first`."""
    lines = text[text.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def examples():
    for block, table in re.findall(r"```json\n(.*?)```\n\n(\|.*?)\n\n", PRICING, re.DOTALL):
        price = json.loads(block)
        for quantity, free, costs in rows_of(table, price["unit"]):
            yield pytest.param(price, quantity, free, costs, id=f"{price['scheme']}-{quantity}")


@pytest.mark.parametrize(("price", "quantity", "free", "costs"), list(examples()))
def test_an_example_costs_what_it_says(price, quantity, free, costs):
    rating = PriceTerms.from_parts(**price).rate(Decimal(quantity), Decimal(free))
    assert rating.amount_nano == Decimal(costs.removeprefix("$")) * 10**9


def test_each_scheme_has_an_example_and_each_unit_a_line():
    assert {row.values[0]["scheme"] for row in examples()} == set(SCHEMES)
    assert [row[0].strip("`") for row in rows_of(PRICING, "unit")] == list(UNITS)


def test_the_quote_of_eleven_is_as_told():
    volume = next(row.values[0] for row in examples() if row.values[0]["scheme"] == "volume")
    assert "the quote for eleven is $0.1:" in PRICING
    assert PriceTerms.from_parts(**volume).quote(11).amount_nano == 100_000_000


def bps(text):
    return int(Decimal(text.removesuffix(" %")) * 100)


def test_the_worked_chain_is_split_as_told():
    works = {}
    for name, made_from, share, royalty in rows_of(LICENCES, "version"):
        parents = () if made_from == "–" else tuple(made_from.split(", "))
        works[name] = Work(name, name, f"{name} v1", bps(share), bps(royalty), parents)
    charge = int(Decimal(re.search(r"costs \$([0-9.]+) is split", LICENCES)[1]) * 10**9)
    shares = shares_of(works, "Merge")
    amounts, fee = split(charge, shares)
    *told, (_, _, rest) = rows_of(LICENCES, "who")
    assert [(s.org_id, s.bps, a) for s, a in zip(shares, amounts, strict=True)] == [
        (who, bps(part), int(Decimal(amount.removeprefix("$")) * 10**9))
        for who, part, amount in told
    ]
    assert fee == int(Decimal(rest.removeprefix("$")) * 10**9)


def test_the_limits_are_as_told():
    assert f"More than {MAX_ANCESTORS} versions in one chain, or more than {MAX_DEPTH}" in LICENCES
