"""A version names all that it was made from; its chain is checked when it is listed."""

import pytest
from django.db import InternalError, ProgrammingError, connection, transaction

from billing.models import Charge
from marketplace.accounts import services as accounts
from marketplace.catalog import chains, services
from marketplace.catalog.models import Status, Version, VersionParent, Visibility
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.money import to_nano
from marketplace.jobs import services as jobs
from tests.cast import SCHEMA, listed_version, open_licence, person, report_finished


def vendor(name):
    return accounts.organisation_create(name=name.title(), owner=person(name), slug=name)


@pytest.fixture
def family(cast):
    """Ground by Alice (10 %); left and right by others on it (5 % and 3 %)."""
    ground = cast.version
    left_org, right_org = vendor("leftists"), vendor("rightists")
    left = listed_version(
        left_org, open_licence(left_org, royalty=500), cast.sam, name="left", base=ground
    )
    right = listed_version(
        right_org, open_licence(right_org, royalty=300), cast.sam, name="right", base=ground
    )
    return ground, left, right


@pytest.fixture
def merger(cast):
    return vendor("merger")


def merge(cast, org, *parents, licence=None, name="merge", **parts):
    licence = licence or open_licence(org, royalty=0)
    return listed_version(
        org, licence, cast.sam, name=name, parents=list(parents), price="0.1", **parts
    )


def test_a_merge_pays_each_maker_and_their_common_ground_once(cast, merger, family):
    ground, left, right = family
    made = merge(cast, merger, left, right)
    job, _ = jobs.job_submit(org=cast.developer, ref=made.model.ref, given={"prompt": "x"})
    jobs.job_finished(report_finished(job))
    charge = Charge.objects.get(pk=job.pk)
    shares = {share["version_id"]: share for share in charge.shares}
    amounts = {key: share["amount_nano"] for key, share in shares.items()}
    assert amounts == {
        str(made.pk): to_nano("0.062"),
        str(left.pk): to_nano("0.005"),
        str(right.pk): to_nano("0.003"),
        str(ground.pk): to_nano("0.010"),
    }
    assert charge.fee_nano == to_nano("0.02")
    assert {key: share["licence_id"] for key, share in shares.items()} == {
        str(row.pk): str(row.licence_id) for row in (made, left, right, ground)
    }


def test_base_and_parents_add_up(cast, merger, family):
    _, left, right = family
    made = merge(cast, merger, right, base=left)
    assert [share.bps for share in chains.shares(made)] == [6200, 500, 300, 1000]


def test_an_overcommitted_chain_is_refused_when_it_is_made(cast, merger, family):
    _, left, right = family
    poor = open_licence(merger, share=1799)
    with pytest.raises(InvalidInput, match="owed 18 %") as refusal:
        merge(cast, merger, left, right, licence=poor)
    assert list(refusal.value.fields) == ["parents"]
    assert not Version.objects.for_org(merger).exists()
    enough = services.licence_create(
        org=merger, slug="open", title="Open", kind="open", text="x", revenue_share_bps=1800
    )
    assert merge(cast, merger, left, right, licence=enough, name="fair").status == Status.LISTED


@pytest.mark.parametrize("case", ["twice", "base again", "private", "too many"])
def test_senseless_parents_are_refused(cast, merger, family, case):
    ground, left, right = family
    hidden = listed_version(
        cast.vendor, cast.licence, cast.sam, name="hidden", visibility=Visibility.PRIVATE
    )
    parts = {
        "twice": {"parents": [left, left]},
        "base again": {"parents": [left], "base": left},
        "private": {"parents": [right, hidden]},
        "too many": {"parents": [ground] * 17},
    }[case]
    licence = open_licence(merger)
    model = services.model_create(org=merger, name="bad", title="Bad", task="text-to-image")
    with pytest.raises(InvalidInput) as refusal:
        services.version_create(
            model=model,
            weights_uri="starter:starter-image",
            weights_digest="sha256:" + "0" * 64,
            family="flux",
            input_schema=SCHEMA,
            licence=licence,
            **parts,
        )
    assert list(refusal.value.fields) == ["parents"]


def test_weights_of_another_may_be_named_among_the_parents(cast, merger):
    parts = {"weights_uri": "hub://acme/tiny", "weights_digest": "sha256:" + "d" * 64}
    theirs = listed_version(cast.vendor, cast.licence, cast.sam, name="theirs", **parts)
    with pytest.raises(InvalidInput) as refusal:
        merge(cast, merger, **parts)
    assert list(refusal.value.fields) == ["weights_digest"]
    licence = services.licence_create(
        org=merger, slug="named", title="N", kind="open", text="x", revenue_share_bps=8000
    )
    made = merge(cast, merger, theirs, licence=licence, name="named", **parts)
    assert [share.bps for share in chains.shares(made)] == [7000, 1000]


def test_what_a_version_was_made_from_never_changes(cast, merger, family):
    made = merge(cast, merger, family[1])
    for change in (
        lambda: VersionParent.objects.filter(version=made).update(parent=family[2]),
        lambda: VersionParent.objects.filter(version=made).delete(),
    ):
        with (
            pytest.raises((InternalError, ProgrammingError), match=r"append-only|permission"),
            transaction.atomic(),
        ):
            change()


def test_a_cycle_put_into_the_database_is_not_sold(cast, merger, family):
    ground, left, _ = family
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO catalog_versionparent (version_id, parent_id, position) VALUES (%s,%s,0)",
            [ground.pk, left.pk],
        )
    with pytest.raises(WrongState, match="itself"):
        jobs.job_submit(org=cast.developer, ref=left.model.ref, given={"prompt": "x"})


def test_the_api_names_all_parents(cast, merger, family, api):
    made = merge(cast, merger, family[1], family[2])
    answer = api.get(f"/v1/models/{made.model.ref}").json()
    assert answer["version"]["parents"] == ["leftists/left:1", "rightists/right:1"]
