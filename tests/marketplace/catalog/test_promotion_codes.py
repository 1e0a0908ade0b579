"""A promotion code becomes credit, once per organisation and as often as it allows."""

from datetime import timedelta

import pytest

from billing.models import Grant, Transfer
from billing.selectors import balance_of, earnings_total
from marketplace.accounts import services as accounts
from marketplace.catalog import promotions
from marketplace.catalog.promotion_models import Promotion, PromotionUse
from marketplace.catalog.promotions import promotion_redeem
from marketplace.core.clock import now
from marketplace.core.errors import InsufficientFunds, InvalidInput, TooManyRequests, WrongState
from marketplace.core.money import to_nano
from marketplace.jobs import services as jobs
from tests.at_once import at_once
from tests.cast import listed_version, make_cast, person, report_finished


def code(text="SPRING-2027", usd="2", **extra):
    return Promotion.objects.create(code=text, amount_nano=to_nano(usd), **extra)


@pytest.mark.parametrize("written", ["SPRING-2027", " spring-2027 "])
def test_a_code_gives_credit_that_pays_the_vendor(cast, written):
    code()
    promotion_redeem(org=cast.stranger, code=written, user=cast.charlie)
    assert balance_of(cast.stranger.pk).available_nano == to_nano("2")
    job, _ = jobs.job_submit(org=cast.stranger, ref=cast.ref, given={"prompt": "x"})
    jobs.job_finished(report_finished(job))
    assert earnings_total(cast.vendor.pk) == to_nano("0.0032")
    assert PromotionUse.objects.get().user == cast.charlie


def test_a_second_time_is_refused(cast):
    code()
    promotion_redeem(org=cast.stranger, code="SPRING-2027")
    with pytest.raises(WrongState) as refusal:
        promotion_redeem(org=cast.stranger, code="SPRING-2027")
    assert refusal.value.code == "promotion_used"
    assert balance_of(cast.stranger.pk).available_nano == to_nano("2")
    assert Promotion.objects.get().uses == 1


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"starts_at": now() + timedelta(days=1)}, "yet"),
        ({"ends_at": now() - timedelta(seconds=1)}, "expired"),
        ({"max_uses": 0}, "as often"),
        ({"text": "OTHER"}, "no such"),
    ],
)
def test_a_code_that_does_not_hold_is_refused_and_gives_nothing(cast, extra, words):
    code(**extra)
    with pytest.raises(InvalidInput, match=words) as refusal:
        promotion_redeem(org=cast.stranger, code="SPRING-2027")
    assert list(refusal.value.fields) == ["code"]
    assert not PromotionUse.objects.exists()
    assert balance_of(cast.stranger.pk).available_nano == 0


def test_credit_of_a_code_pays_for_its_model_alone(cast):
    other = listed_version(cast.vendor, cast.licence, cast.sam, name="other")
    code(model=cast.version.model)
    promotion_redeem(org=cast.stranger, code="SPRING-2027")
    with pytest.raises(InsufficientFunds):
        jobs.job_submit(org=cast.stranger, ref=other.model.ref, given={"prompt": "x"})
    assert jobs.job_submit(org=cast.stranger, ref=cast.ref, given={"prompt": "x"})[0].quote_nano


def test_credit_of_a_code_lasts_as_long_as_it_says(cast):
    code(credit_days=30)
    promotion_redeem(org=cast.stranger, code="SPRING-2027")
    grant = Grant.objects.get(org=cast.stranger)
    assert timedelta(days=29) < grant.expires_at - now() <= timedelta(days=30)


def test_guessing_is_stopped(cast, monkeypatch):
    monkeypatch.setattr(promotions, "TRIES_PER_HOUR", 3)
    code()
    for guess in ("A", "B", "\x00"):
        with pytest.raises(InvalidInput):
            promotion_redeem(org=cast.stranger, code=guess)
    with pytest.raises(TooManyRequests) as refusal:
        promotion_redeem(org=cast.stranger, code="SPRING-2027")
    assert refusal.value.extra["retry_after"] > 0


def test_a_person_with_many_organisations_uses_and_tries_as_one(cast, monkeypatch):
    monkeypatch.setattr(promotions, "TRIES_PER_HOUR", 3)
    code()
    orgs = [accounts.organisation_create(name=f"O{n}", owner=cast.charlie) for n in range(4)]
    promotion_redeem(org=orgs[0], code="SPRING-2027", user=cast.charlie)
    for org in orgs[1:3]:
        with pytest.raises(WrongState) as refusal:
            promotion_redeem(org=org, code="SPRING-2027", user=cast.charlie)
        assert refusal.value.code == "promotion_used"
        assert balance_of(org.pk).available_nano == 0
    with pytest.raises(TooManyRequests):
        promotion_redeem(org=orgs[3], code="SPRING-2027", user=cast.charlie)
    assert promotion_redeem(org=cast.developer, code="SPRING-2027", user=cast.bob).uses == 2


@pytest.mark.usefixtures("transactional_db")
def test_at_once_a_code_is_used_as_often_as_it_allows_and_once_by_each():
    cast = make_cast()
    orgs = [
        accounts.organisation_create(name=f"O{n}", owner=person(f"o{n}"), slug=f"o{n}")
        for n in range(5)
    ]
    code(max_uses=3)
    results = at_once(
        [
            lambda o=org: promotion_redeem(org=o, code="SPRING-2027")
            for org in [*orgs, cast.developer, cast.developer]
        ]
    )
    assert sum(isinstance(result, Promotion) for result in results) == 3
    assert Promotion.objects.get().uses == PromotionUse.objects.count() == 3
    assert all(isinstance(r, Promotion | InvalidInput | WrongState) for r in results), results
    granted = Transfer.objects.filter(kind="grant", amount_nano=to_nano("2"))
    assert granted.count() == 3
