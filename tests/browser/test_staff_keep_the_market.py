"""Staff sign in with a second factor, review, refund and read the audit; every page fits."""

import json
import time

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal import auth as totp

from billing import invariants
from billing.models import Incident, Refund, StripeEvent
from inference import protocol
from marketplace.catalog import services as catalog
from marketplace.catalog.models import Status, Version
from marketplace.console.models import Report, StaffAct
from marketplace.core import valkey
from marketplace.core.outbox import Delivery
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.browser.conftest import fits
from tests.cast import SCHEMA, make_cast, report_finished, staff_sign_in


@pytest.fixture
def market(page):
    """A charge, a version that waits for review, a report, an incident, a failed event."""
    valkey.client().flushdb()
    cast = make_cast()
    made, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "a circle"})
    services.job_finished(report_finished(Job.objects.get(pk=made.pk)))
    version = catalog.version_create(
        model=cast.version.model,
        licence=cast.licence,
        weights_uri="starter:starter-image",
        weights_digest="sha256:" + "0" * 64,
        family="flux",
        input_schema=SCHEMA,
    )
    catalog.price_set(version=version, unit="image", unit_price="0.01")
    catalog.version_submit(version=version)
    Incident.objects.create(rule="an invoice is held back", detail="Five times as much as usual.")
    Report.objects.create(model=cast.version.model, reason="copyright", text="I drew this in 2019.")
    StripeEvent.objects.create(
        id="evt_1", type="charge.refunded", payload={"data": {"object": {"id": "ch_1"}}},
        delivery=Delivery.FAILED, last_error="No such payment.", attempts=30,
    )  # fmt: skip
    beat = protocol.Heartbeat(
        worker_id="gpu-box-1", hostname="box", device="cuda", device_name="NVIDIA H100",
        memory_bytes=80 * 2**30, memory_used_bytes=31 * 2**30, classes=["small"], slots=16,
        busy=[str(made.pk)], loaded=[str(cast.version.pk)], samples=4,
        load=[0, 10, 35, 80, 100, 60, 20], started_at=time.time() - 7200, at=time.time(),
    )  # fmt: skip
    valkey.client().sadd(protocol.WORKERS_KEY, beat.worker_id)
    valkey.client().set(protocol.worker_key(beat.worker_id), json.dumps(beat.to_dict()))
    invariants.audit_remember(invariants.audit())
    yield cast, made, version
    valkey.client().flushdb()


def code_of(secret):
    """Return the code of now; it is taken until the end of the step after."""
    return totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))


def test_from_the_second_factor_over_review_and_refund_to_the_audit(page, market):
    cast, job, version = market
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(cast.sam, secret)
    EmailAddress.objects.create(user=cast.sam, email=cast.sam.email, verified=True, primary=True)
    page.goto("/console/")
    page.get_by_label("Email").fill(cast.sam.email)
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_label("Code").wait_for()  # only now a code is read off
    page.get_by_label("Code").fill(code_of(secret))
    page.get_by_role("button", name="Sign In", exact=True).click()
    page.get_by_role("heading", name="What needs you").wait_for()

    page.get_by_role("link", name="To review").click()
    page.get_by_role("link", name="Begin with the first").click()
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("was listed").wait_for()
    assert Version.objects.get(pk=version.pk).status == Status.LISTED

    page.get_by_label("Search everything").fill(str(job.pk))
    page.get_by_role("button", name="Search").click()
    page.get_by_text("Charged $0.004").first.wait_for()
    page.get_by_label("Amount, USD").fill("0.001")
    page.get_by_label("Note").fill("Half of it was black.")
    page.get_by_role("button", name="Refund").click()
    page.get_by_text("$0.001 was given back.").wait_for()
    assert Refund.objects.get().by == cast.sam

    page.get_by_role("link", name="Audit", exact=True).click()
    for text in ("version.listed", "charge.refunded", "Half of it was black."):
        assert page.get_by_text(text).first.is_visible(), text
    assert StaffAct.objects.count() == 2


def test_every_page_of_the_console_fits_every_screen(page, site, market, client):
    cast, job, version = market
    staff_sign_in(client, cast.sam)
    cookie = client.cookies["sessionid"]
    page.context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": site}])
    report = Report.objects.get()
    pages = {
        "home": "", "review": "review/", "version": f"review/{version.pk}/",
        "reports": "reports/", "report": f"reports/{report.pk}/", "incidents": "incidents/",
        "incident": f"incidents/{Incident.objects.get().pk}/", "queues": "queues/",
        "queue": "queues/stripeevent/", "event": "queues/stripeevent/rows/evt_1/",
        "fleet": "fleet/", "ledger": "ledger/", "totals": "ledger/totals/",
        "invariants": "ledger/invariants/", "accounts": "ledger/accounts/",
        "transfers": "ledger/transfers/", "story": f"story/{job.pk}/?replay=1",
        "search": "search/?q=builders", "organisations": "organisations/",
        "organisation": "organisations/builders/", "person": f"people/{cast.bob.pk}/",
        "flags": "flags/", "audit": "audit/", "tables": "tables/",
        "charges": "billing/charge/", "top-ups": "billing/topup/",
        "model-row": f"catalog/model/{cast.version.model_id}/change/",
    }  # fmt: skip
    too_wide = []
    for name, path in pages.items():
        page.goto(f"/console/{path}")
        too_wide += fits(page, f"console-{name}")
    assert too_wide == []
