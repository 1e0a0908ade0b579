"""Staff suspend and restore organisations; while it lasts they call nothing and sell nothing."""

import uuid

import pytest
from django.core import mail

from billing.selectors import balance_of
from marketplace.catalog.models import Model
from marketplace.console.models import StaffAct
from marketplace.core.errors import NotAllowed, NotFound
from marketplace.jobs import services

pytestmark = pytest.mark.django_db


def stop(browser, org, **form):
    return browser.post(f"/console/organisations/{org.slug}/stop/", form)


def submit(cast):
    cast.developer.refresh_from_db()
    return services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})


def test_a_suspended_customer_is_refused_until_restored(
    sam, cast, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        stop(sam, cast.developer, note="Stolen cards.")
    assert "Stolen cards." in mail.outbox[-1].body
    with pytest.raises(NotAllowed, match="suspended"):
        submit(cast)
    stop(sam, cast.developer, note="It was a mistake.", restore="1")
    submit(cast)
    verbs = list(StaffAct.objects.values_list("verb", flat=True))
    assert verbs == ["organisation.restored", "organisation.suspended"]


def test_the_models_of_a_suspended_vendor_are_hidden(sam, cast, api):
    stop(sam, cast.vendor, note="Fraud.")
    assert not Model.objects.public().exists()
    with pytest.raises(NotFound):
        submit(cast)
    assert api.get(f"/v1/models/{cast.ref}").status_code == 404


def test_why_must_be_said_and_the_right_be_held(sam, staff, cast):
    assert stop(sam, cast.developer, note="").status_code == 422
    assert stop(staff("view_organisation"), cast.developer, note="No.").status_code == 403
    submit(cast)


def test_the_page_shows_what_it_holds_and_grants_credit_once(sam, cast, charge):
    page = sam.get("/console/organisations/builders/")
    text = page.content.decode()
    for part in ("bob@example.org", "$0.996", cast.key.prefix, str(charge.pk)[:8]):
        assert part in text
    nonce = page.context["money"]["nonce"].value()
    form = {"grant_usd": "2", "grant_priority": "50", "grant_note": "Sorry.", "nonce": nonce}
    for _ in range(2):
        assert sam.post("/console/organisations/builders/money/", form).status_code == 302
    assert balance_of(cast.developer.pk).granted_nano == 2_000_000_000


@pytest.mark.parametrize(
    ("right", "given", "refused"),
    [
        ("change_organisation", {}, ({"grant_usd": "5"}, {"credit_limit_usd": "9"})),
        ("add_grant", {"grant_usd": "5"}, ({"credit_limit_usd": "9"}, {"shards": "2"})),
        ("change_wallet", {"credit_limit_usd": "9", "shards": "2"}, ({"grant_usd": "5"},)),
    ],
)
def test_credit_and_limits_need_rights_of_their_own(staff, cast, right, given, refused):
    browser = staff("view_organisation", right)
    place = "/console/organisations/builders/"
    before = balance_of(cast.developer.pk)
    for fields in refused:
        form = {"nonce": str(uuid.uuid4()), **fields}
        assert browser.post(f"{place}money/", form).status_code == 403
        assert f'name="{next(iter(fields))}"' not in browser.get(place).content.decode()
    assert balance_of(cast.developer.pk) == before
    assert not StaffAct.objects.exists()
    if given:
        answer = browser.post(f"{place}money/", {"nonce": str(uuid.uuid4()), **given})
        assert answer.status_code == 302
        assert f'name="{next(iter(given))}"' in browser.get(place).content.decode()
        assert balance_of(cast.developer.pk) != before
        assert StaffAct.objects.get().verb == "organisation.credit"


def test_djangos_form_of_an_organisation_books_no_more_than_one_may(staff, sam, cast):
    place = f"/console/accounts/organisation/{cast.developer.pk}/change/"
    browser = staff("view_organisation", "change_organisation")
    assert 'name="grant_usd"' not in browser.get(place).content.decode()
    form = {
        "name": "Builders", "about": "", "website": "", "country": "DE", "grant_usd": "5",
        "nonce": str(uuid.uuid4()), "memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0,
    }  # fmt: skip
    assert browser.post(place, form).status_code == 403
    assert balance_of(cast.developer.pk).granted_nano == 0
    assert sam.post(place, form).status_code == 302
    assert balance_of(cast.developer.pk).granted_nano == 5 * 10**9
    assert StaffAct.objects.filter(verb="organisation.credit", note__contains="$5").exists()


def test_the_list_is_paged_and_finds_the_suspended(sam, cast):
    assert len(sam.get("/console/organisations/").context["organisations_found"]) == 3
    stop(sam, cast.stranger, note="Spam.")
    found = sam.get("/console/organisations/?state=suspended").context["organisations_found"]
    assert [org.slug for org in found] == ["charlie"]
