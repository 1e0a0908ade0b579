"""Royalty chains of any shape: everybody is paid once, nothing is lost, the impossible refused."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.split import MAX_DEPTH, ChainError, Work, ancestors, shares_of, split


def work(name, *parents, royalty=0, revenue=8000, org=None):
    return Work(org or f"org-{name}", name, f"licence-{name}", revenue, royalty, parents)


def chain(*rows):
    return {row.version_id: row for row in rows}


@st.composite
def dags(draw, royalty=400):
    """Versions v0 … vn, each made from some of the earlier ones; the last is the root."""
    size = draw(st.integers(1, 12))
    rows = []
    for position in range(size):
        earlier = [f"v{n}" for n in range(position)]
        parents = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
        rows.append(
            work(
                f"v{position}",
                *parents,
                royalty=draw(st.integers(0, royalty)),
                org=f"org-{draw(st.integers(0, 4))}",
            )
        )
    return chain(*rows), rows[-1].version_id


@given(dags(), st.integers(0, 10**15))
def test_charge_is_shares_plus_fee_for_any_chain(dag, charge):
    works, root = dag
    shares = shares_of(works, root)
    amounts, fee = split(charge, shares)
    assert sum(amounts) + fee == charge
    assert fee >= charge * (10_000 - works[root].revenue_share_bps) // 10_000
    assert sum(share.bps for share in shares) == works[root].revenue_share_bps


@given(dags())
def test_each_ancestor_is_paid_its_royalty_once(dag):
    works, root = dag
    paid = [share.version_id for share in shares_of(works, root)[1:]]
    reached, todo = set(), list(works[root].parents)
    while todo:
        version = todo.pop()
        reached.add(version)
        todo += works[version].parents
    assert sorted(paid) == sorted(v for v in reached if works[v].royalty_bps)


@given(dags(), st.integers(0, 10**12), st.randoms(use_true_random=False))
def test_the_order_of_parents_changes_nobodys_part(dag, charge, shuffler: random.Random):
    works, root = dag
    turned = {}
    for name, row in works.items():
        parents = list(row.parents)
        shuffler.shuffle(parents)
        turned[name] = work(
            name, *parents, royalty=row.royalty_bps, revenue=row.revenue_share_bps, org=row.org_id
        )

    def parts(given):
        shares = shares_of(given, root)
        amounts, fee = split(charge, shares)
        return {s.version_id: a for s, a in zip(shares, amounts, strict=True)}, fee

    assert parts(works) == parts(turned)


@given(dags(royalty=3000))
def test_a_chain_is_refused_exactly_when_it_is_owed_more_than_is_shared(dag):
    works, root = dag
    owed = sum(works[v].royalty_bps for v in ancestors(works, root))
    if owed > works[root].revenue_share_bps:
        with pytest.raises(ChainError, match="owed"):
            shares_of(works, root)
    else:
        assert shares_of(works, root)[0].bps == works[root].revenue_share_bps - owed


def test_a_diamond_pays_the_common_ancestor_once():
    works = chain(
        work("ground", royalty=1000),
        work("left", "ground", royalty=500),
        work("right", "ground", royalty=300),
        work("merge", "left", "right"),
    )
    shares = shares_of(works, "merge")
    assert [(s.version_id, s.bps, s.licence_id) for s in shares] == [
        ("merge", 6200, "licence-merge"),
        ("left", 500, "licence-left"),
        ("right", 300, "licence-right"),
        ("ground", 1000, "licence-ground"),
    ]


@pytest.mark.parametrize(
    "rows",
    [
        (work("a", "a"),),
        (work("a", "b"), work("b", "a")),
        (work("a", "b"), work("b", "c"), work("c", "b")),
        (work("a", "b", "c"), work("b"), work("c", "d"), work("d", "e"), work("e", "c")),
    ],
)
def test_cycles_are_refused(rows):
    with pytest.raises(ChainError, match="itself"):
        ancestors(chain(*rows), "a")


def test_a_chain_deeper_than_the_limit_is_refused():
    def line(length):
        rows = [work(f"v{n}", *([f"v{n - 1}"] if n else [])) for n in range(length + 1)]
        return ancestors(chain(*rows), f"v{length}")

    assert len(line(MAX_DEPTH)) == MAX_DEPTH
    with pytest.raises(ChainError, match="deeper"):
        line(MAX_DEPTH + 1)
