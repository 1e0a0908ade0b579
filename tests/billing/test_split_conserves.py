"""Shares and fee add up to the charge, to the nano-dollar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.split import Share, split


@st.composite
def shares(draw):
    left, found = 10_000, []
    for index in range(draw(st.integers(0, 8))):
        bps = draw(st.integers(0, left))
        left -= bps
        found.append(Share(f"org-{index}", bps, "v"))
    return found


@given(st.integers(0, 10**15), shares())
def test_nothing_is_lost_or_made(charge, parts):
    amounts, fee = split(charge, parts)
    assert sum(amounts) + fee == charge
    assert fee >= 0
    assert all(
        amount <= charge * part.bps / 10_000 for amount, part in zip(amounts, parts, strict=True)
    )


def test_the_remainder_is_the_platforms():
    assert split(1, [Share("a", 5000, "v"), Share("b", 5000, "v")]) == ([0, 0], 1)


@pytest.mark.parametrize(
    ("charge", "bps"), [(-1, [10]), (1, [-1]), (1, [10_001]), (1, [6000, 5000])]
)
def test_impossible_splits_are_refused(charge, bps):
    with pytest.raises(ValueError, match=r"negative|more than"):
        split(charge, [Share("a", part, "v") for part in bps])
