"""Staff look as a customer: with a banner, for a reason, changing nothing, and it is audited."""

import time

import pytest
from django.test import Client

from billing import connect, recharge
from billing.models import BillingProfile, PayoutAccount
from marketplace.accounts.models import ApiKey, AuditEvent
from marketplace.console.models import StaffAct
from marketplace.core.ids import derived_id
from marketplace.jobs import services
from tests.billing.payin import pay
from tests.cast import person
from tests.stripe_standin import shared_standin, standin

__all__ = ["shared_standin", "standin"]
pytestmark = pytest.mark.django_db


def begin(browser, user, why="They cannot find their invoice."):
    return browser.post("/acting/begin/", {"user_pk": user.pk, "why": why, "next": "/dashboard/"})


def test_the_banner_is_on_every_page_and_the_audit_has_both_ends(sam, cast):
    assert begin(sam, cast.bob)["Location"] == "/dashboard/"
    for place in ("/", "/dashboard/", "/dashboard/jobs/", "/pricing/"):
        page = sam.get(place).content.decode()
        assert "You are looking as bob@example.org." in page, place
    sam.post("/acting/stop/", {"next": "/"})
    assert "You are looking as" not in sam.get("/").content.decode()
    ended, began = StaffAct.objects.all()
    assert (began.verb, began.by, began.subject) == ("acting.began", cast.sam, cast.bob.email)
    assert began.note == "They cannot find their invoice."
    assert (ended.verb, ended.by) == ("acting.ended", cast.sam)
    told = AuditEvent.objects.for_org(cast.developer).filter(action__startswith="staff.")
    assert list(told.values_list("action", "actor")) == [
        ("staff.acting.ended", "the platform"),
        ("staff.acting.began", "the platform"),
    ]


@pytest.mark.parametrize(
    "place",
    [
        "/dashboard/keys/", "/dashboard/billing/top-ups/", "/dashboard/billing/recharge/",
        "/dashboard/team/", "/dashboard/budgets/organisation/", "/vendor/payouts/connect/",
        "/models/atelier/sketch/run/", "/accounts/2fa/totp/activate/", "/accounts/email/",
        "/accounts/password/change/", "/dashboard/organisations/new/",
    ],
)  # fmt: skip
def test_nothing_can_be_changed(sam, cast, place):
    begin(sam, cast.bob)
    keys = ApiKey.objects.count()
    assert sam.post(place, {"name": "mine", "scopes": ["run"]}).status_code == 403
    assert ApiKey.objects.count() == keys


@pytest.mark.parametrize(
    "place",
    ["/accounts/2fa/", "/accounts/2fa/recovery-codes/", "/dashboard/settings/", "/console/"],
)
def test_secrets_and_the_console_stay_closed(sam, cast, place):
    begin(sam, cast.bob)
    assert sam.get(place).status_code == 403
    assert sam.get(place).content.decode().count("whsec_") == 0


def test_nobody_acts_as_staff_or_as_the_deactivated(sam, cast):
    for user in (person("eve", is_staff=True), person("gone", is_active=False), cast.sam):
        assert begin(sam, user).status_code == 403
    assert not StaffAct.objects.exists()


def test_it_needs_the_permission_a_second_factor_and_a_reason(staff, sam, cast):
    assert begin(staff("view_user"), cast.bob).status_code == 403
    plain = Client()
    plain.force_login(cast.sam)
    assert begin(plain, cast.bob).status_code == 403
    assert begin(sam, cast.bob, why="")["Location"].startswith("/console/people/")
    assert begin(staff("view_user", "act_as"), cast.bob)["Location"] == "/dashboard/"


def test_who_has_not_begun_cannot_stop(cast):
    bob = Client()
    bob.force_login(cast.bob)
    assert bob.post("/acting/stop/").status_code == 403


def test_after_it_the_console_asks_for_the_second_factor_again(sam, cast):
    begin(sam, cast.bob)
    sam.post("/acting/stop/", {"next": "/"})
    assert sam.get("/console/").status_code == 302
    assert StaffAct.objects.count() == 2


@pytest.mark.parametrize("place", ["/dashboard/webhooks/", "/dashboard/billing/profile/"])
def test_addresses_of_servers_and_people_stay_closed(sam, cast, place):
    begin(sam, cast.bob)
    assert sam.get(place).status_code == 403


def test_a_jobs_page_names_only_the_host_of_its_webhook(sam, cast):
    job, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "x"},
        webhook_url="https://hooks.example.org/T0/token-of-bob",
    )  # fmt: skip
    begin(sam, cast.bob)
    page = sam.get(f"/dashboard/jobs/{job.pk}/").content.decode()
    assert "hooks.example.org" in page
    assert "token-of-bob" not in page


@pytest.fixture
def stripe(settings, standin):
    """The stand-in, with this installation set up to use it."""
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", standin.url
    return standin


def get_as(user, place):
    browser = Client()
    browser.force_login(user)
    return browser.get(place)


def test_coming_back_from_the_card_page_saves_no_card_for_them(sam, cast, stripe):
    assert pay(stripe, recharge.card_begin(org=cast.developer, key="one")).status == 200
    place = f"/dashboard/billing/recharge/?saved={derived_id('setup', cast.developer.pk, 'one')}"
    saved = BillingProfile.objects.filter(org=cast.developer).exclude(payment_method_id="")
    begin(sam, cast.bob)
    assert sam.get(place).status_code == 200
    assert not saved.exists()
    assert get_as(cast.bob, place).status_code == 200
    assert saved.exists()


def test_coming_back_from_the_account_page_enables_nothing_for_them(sam, cast, stripe):
    page = "http://127.0.0.1/vendor/payouts/"
    url = connect.onboarding_begin(org=cast.vendor, country="FR", page_url=page)
    assert stripe.raw("POST", url.removeprefix(stripe.url), "{}").status == 200
    account = PayoutAccount.objects.get(org=cast.vendor)
    begin(sam, cast.alice)
    assert sam.get("/vendor/payouts/?from=stripe").status_code == 302
    account.refresh_from_db()
    assert not account.enabled
    assert get_as(cast.alice, "/vendor/payouts/?from=stripe").status_code == 302
    account.refresh_from_db()
    assert account.enabled


def changed_password(user):
    user.set_password("something quite else")
    user.save()


def deactivated(user):
    user.is_active = False
    user.save()


def no_more_staff(user):
    user.is_staff = user.is_superuser = False
    user.save()


@pytest.mark.parametrize("lost", [changed_password, deactivated, no_more_staff])
@pytest.mark.parametrize("stops", [False, True])
def test_it_ends_with_the_staff_members_own_sign_in_and_rights(sam, cast, lost, stops):
    begin(sam, cast.bob)
    lost(cast.sam)
    answer = sam.post("/acting/stop/", {"next": "/"}) if stops else sam.get("/dashboard/jobs/")
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/login/")
    assert not sam.session.keys()
    assert sam.get("/dashboard/")["Location"].startswith("/accounts/login/")
    ended = StaffAct.objects.first()
    assert (ended.verb, ended.by, ended.subject) == ("acting.ended", cast.sam, cast.bob.email)
    assert ended.note


def test_it_ends_after_an_hour(sam, cast, monkeypatch):
    begin(sam, cast.bob)
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start + 3500)
    assert sam.get("/dashboard/jobs/").status_code == 200
    monkeypatch.setattr(time, "time", lambda: start + 3601)
    assert sam.get("/dashboard/jobs/")["Location"] == "/accounts/login/"
    assert "60 minutes" in StaffAct.objects.first().note
