"""From draft to listed: what a vendor may write, what staff decide, who sees it."""

from decimal import Decimal

import pytest

from marketplace.catalog import selectors, services
from marketplace.catalog.models import ReviewDecision, Status, Version
from marketplace.core.errors import InvalidInput, NotAllowed, NotFound, WrongState
from marketplace.jobs import services as jobs
from tests.cast import SCHEMA, listed_version, open_licence


def draft(cast, **changes):
    parts = {
        "model": cast.version.model,
        "weights_uri": "starter:starter-image",
        "weights_digest": "sha256:" + "a" * 64,
        "family": "flux",
        "input_schema": SCHEMA,
        "licence": cast.licence,
    }
    return services.version_create(**(parts | changes))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"weights_uri": "http://example.org/weights"}, "weights_uri"),
        ({"weights_uri": "../../etc/passwd"}, "weights_uri"),
        ({"weights_digest": "md5:abc"}, "weights_digest"),
        ({"family": "unheard-of"}, "family"),
        ({"family": "noop"}, "family"),
        ({"input_schema": {"type": "array"}}, "input_schema"),
        ({"input_schema": {"type": "object", "properties": {"a": {"type": 5}}}}, "input_schema"),
        (
            {"input_schema": {"type": "object", "properties": {"a": {"pattern": "(a+)+$"}}}},
            "input_schema",
        ),
        (
            {"input_schema": {"type": "object", "properties": {"a": {"$ref": "http://x"}}}},
            "input_schema",
        ),
        ({"max_engine_s": 0}, "max_engine_s"),
    ],
)
def test_a_bad_version_is_refused_by_field(cast, change, field):
    with pytest.raises(InvalidInput) as refusal:
        draft(cast, **change)
    assert field in refusal.value.fields
    assert Version.objects.count() == 1


def test_versions_count_up(cast):
    assert [draft(cast).number, draft(cast).number] == [2, 3]


def test_a_draft_without_a_price_cannot_be_submitted(cast):
    with pytest.raises(WrongState):
        services.version_submit(version=draft(cast))


def test_review_keeps_its_history(cast):
    version = draft(cast)
    services.price_set(version=version, unit="image", unit_price=Decimal("0.01"))
    version = services.version_submit(version=version)
    with pytest.raises(InvalidInput):
        services.version_decide(version=version, after=Status.DRAFT, by=cast.sam)
    version = services.version_decide(
        version=version, after=Status.DRAFT, by=cast.sam, note="No model card."
    )
    version = services.version_submit(version=version)
    version = services.version_decide(version=version, after=Status.LISTED, by=cast.sam)
    steps = ReviewDecision.objects.filter(version=version).values_list("after", "note")
    assert list(steps) == [
        ("submitted", ""), ("draft", "No model card."), ("submitted", ""), ("listed", ""),
    ]  # fmt: skip


def test_a_vendor_cannot_list_its_own_version(cast):
    version = draft(cast)
    services.price_set(version=version, unit="image", unit_price=Decimal("0.01"))
    version = services.version_submit(version=version)
    with pytest.raises(NotAllowed):
        services.version_decide(version=version, after=Status.LISTED, by=cast.alice)
    assert Version.objects.get(pk=version.pk).status == "submitted"


def test_a_suspended_version_is_not_run(cast):
    services.version_decide(
        version=cast.version, after=Status.SUSPENDED, by=cast.sam, note="Complaint."
    )
    with pytest.raises(NotFound):
        jobs.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})


def test_a_private_model_is_its_vendors_alone(cast):
    hidden = listed_version(
        cast.vendor, cast.licence, cast.sam, name="hidden", visibility="private"
    )
    with pytest.raises(NotFound):
        selectors.model_get(vendor="atelier", name="hidden", org=cast.developer)
    with pytest.raises(NotFound):
        selectors.version_runnable(ref="atelier/hidden", org=cast.developer)
    assert selectors.version_runnable(ref="atelier/hidden", org=cast.vendor) == hidden


def test_an_unlisted_model_is_found_by_name_only(cast):
    listed_version(cast.vendor, cast.licence, cast.sam, name="quiet", visibility="unlisted")
    assert [m.name for m in selectors.models_public()] == ["sketch"]
    assert selectors.model_get(vendor="atelier", name="quiet", org=None).name == "quiet"


def test_a_name_is_taken_once_per_vendor(cast):
    with pytest.raises(InvalidInput) as refusal:
        services.model_create(org=cast.vendor, name="sketch", title="Again", task="text-to-image")
    assert "name" in refusal.value.fields


def test_a_new_price_leaves_jobs_under_way_alone(cast):
    from tests.cast import report_finished

    job, _ = jobs.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.price_set(version=cast.version, unit="image", unit_price=Decimal("9"))
    jobs.job_finished(report_finished(job))
    job.refresh_from_db()
    assert job.charge_nano == 4_000_000


def test_royalties_reach_the_whole_chain(cast):
    """base (10 %) ← tune (5 %) ← merge: each call of merge pays three vendors."""
    from billing.models import Transfer
    from tests.cast import report_finished

    tune = listed_version(
        cast.stranger,
        open_licence(cast.stranger, share=9000, royalty=500),
        cast.sam,
        name="tune",
        base=cast.version,
    )
    merge = listed_version(
        cast.developer,
        open_licence(cast.developer, share=8000, royalty=0),
        cast.sam,
        name="merge",
        base=tune,
        price="0.0010007",
    )
    job, _ = jobs.job_submit(org=cast.developer, ref=merge.model.ref, given={"prompt": "x"})
    jobs.job_finished(report_finished(job))
    paid = {
        row.credit.org_id: row.amount_nano
        for row in Transfer.objects.filter(kind="share").select_related("credit")
    }
    assert paid == {
        cast.developer.pk: 1_000_700 * 6500 // 10_000,
        cast.stranger.pk: 1_000_700 * 500 // 10_000,
        cast.vendor.pk: 1_000_700 * 1000 // 10_000,
    }
    fee = Transfer.objects.get(kind="fee").amount_nano
    assert sum(paid.values()) + fee == 1_000_700


def test_a_chain_that_promises_too_much_is_refused_when_listed(cast):
    greedy = open_licence(cast.stranger, share=900)
    with pytest.raises(InvalidInput) as refusal:
        listed_version(cast.stranger, greedy, cast.sam, name="greedy", base=cast.version)
    assert "base" in refusal.value.fields


def test_another_vendors_private_model_is_no_base(cast):
    hidden = listed_version(
        cast.vendor, cast.licence, cast.sam, name="hidden", visibility="private"
    )
    with pytest.raises(InvalidInput):
        listed_version(
            cast.stranger, open_licence(cast.stranger), cast.sam, name="thief", base=hidden
        )
