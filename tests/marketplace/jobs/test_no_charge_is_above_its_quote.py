"""Whatever a worker reports, the charge is within the quote; honest reports need no clamp."""

import math
from decimal import Decimal

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from billing.rating import NANO, UNITS, PriceTerms
from inference.protocol import Output, Usage
from marketplace.core.errors import InvalidInput
from marketplace.jobs import quoting

SCHEMA = {
    "properties": {
        "prompt": {"type": "string"},
        "width": {"type": "integer", "default": 64},
        "height": {"type": "integer", "default": 64},
        "num_images": {"type": "integer", "default": 1},
        "num_inference_steps": {"type": "integer", "default": 4},
        "num_frames": {"type": "integer", "default": 16},
        "fps": {"type": "integer", "default": 8},
    }
}
MAX_ENGINE_S = 60
values = st.fixed_dictionaries(
    {
        "prompt": st.text(max_size=50),
        "width": st.integers(1, 2048),
        "height": st.integers(1, 2048),
        "num_images": st.integers(1, 16),
        "num_inference_steps": st.integers(1, 100),
        "num_frames": st.integers(1, 200),
        "fps": st.integers(1, 60),
    }
)
TIERS = [{"up_to": "10", "unit_price": "0.02"}, {"up_to": None, "unit_price": "0.005"}]


@st.composite
def prices(draw):
    scheme = draw(st.sampled_from(["flat", "graduated", "volume", "package"]))
    tiered = scheme in ("graduated", "volume")
    return PriceTerms.from_parts(
        unit=draw(st.sampled_from(sorted(UNITS))),
        scheme=scheme,
        unit_price="0" if tiered else draw(st.sampled_from(["0.013", "9999"])),
        tiers=TIERS if tiered else [],
        package_size="7" if scheme == "package" else None,
        minimum=draw(st.sampled_from(["0", "0.1"])),
    )


def output(index, width, height, seconds):
    return Output(
        index=index, key="k", content_type="video/mp4", size=1, sha256="0",
        width=width, height=height, seconds=seconds,
    )  # fmt: skip


def rated(terms, given, usage, outputs, free):
    bound = quoting.upper_bound(SCHEMA, given, MAX_ENGINE_S)
    try:
        quote = quoting.quote(terms, bound, free)
    except InvalidInput:  # more than a million dollars: no such job is accepted
        reject()
    seen = quoting.measured(usage, outputs, schema=SCHEMA, values=given, max_engine_s=MAX_ENGINE_S)
    return quote, quoting.charge(terms, seen, quote.amount_nano, free), seen


@given(
    prices(),
    values,
    st.integers(-5, 10**30),
    st.integers(-5, 10**30),
    st.lists(
        st.tuples(st.integers(0, 10**12), st.integers(0, 10**12), st.none() | st.floats()),
        max_size=16,
    ),
    st.decimals(0, 50, places=6),
)
def test_no_report_costs_more_than_the_quote(terms, given, steps, engine_ms, sizes, free):
    outputs = [output(n, *size) for n, size in enumerate(sizes)]
    usage = Usage(steps=steps, engine_ms=engine_ms)
    quote, charge, seen = rated(terms, given, usage, outputs, free)
    assert 0 <= charge.amount_nano <= quote.amount_nano
    assert abs(charge.exact_usd * NANO - charge.amount_nano) <= Decimal("0.5")
    assert quoting.charge(terms, seen, quote.amount_nano, free) == charge


@given(prices(), values, st.data())
def test_an_honest_report_is_never_cut(terms, given, data):
    count = data.draw(st.integers(1, given["num_images"]))
    frames = data.draw(st.integers(1, given["num_frames"]))
    seconds = math.floor(frames / given["fps"] * 10**6) / 10**6
    outputs = [output(n, given["width"], given["height"], seconds) for n in range(count)]
    usage = Usage(
        steps=data.draw(st.integers(0, given["num_inference_steps"] * count)),
        engine_ms=data.draw(st.integers(0, MAX_ENGINE_S * 1000)),
    )
    _, charge, seen = rated(terms, given, usage, outputs, Decimal(0))
    assert "never above the quote" not in [line.what for line in charge.lines]
    assert seen["frames"] == frames * count


@pytest.mark.parametrize(("prompt", "count"), [("", 0), ("añb", 3), ("👩‍🎨", 3), (None, 0)])
def test_characters_are_code_points(prompt, count):
    bound = quoting.upper_bound(SCHEMA, {"prompt": prompt}, 1)
    assert bound["characters"] == count
