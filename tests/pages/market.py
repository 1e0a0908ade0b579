"""Fills a market, by its services, so that no list and no page of it is empty."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.contrib.auth.models import Group
from django.test import Client, override_settings
from waffle.models import Flag, Sample, Switch

from billing import meters
from billing import services as billing
from billing.invoicing import close as invoices
from billing.invoicing.payment import invoice_paid
from billing.models import (
    BillingProfile,
    Dispute,
    Funding,
    Incident,
    Invoice,
    MeterHour,
    RefundReason,
    Statement,
    StripeEvent,
    TopUp,
    TopUpReturn,
    Transfer,
)
from billing.models import SpendAlert as Alert
from billing.refunds import charge_refund
from billing.statements.close import statement_close
from billing.wallets import credit_limit_set
from inference import protocol
from marketplace.accounts import events, projects
from marketplace.accounts import services as accounts
from marketplace.accounts.endpoints import endpoint_create
from marketplace.accounts.models import Membership, Role, User
from marketplace.catalog import acceptance
from marketplace.catalog import services as catalog
from marketplace.catalog.models import Licence, Model, Status, Version
from marketplace.catalog.promotion_models import Promotion
from marketplace.catalog.samples import sample_put
from marketplace.console.models import Report, StaffAct
from marketplace.core import valkey
from marketplace.core.clock import now
from marketplace.core.ids import new_id
from marketplace.core.money import to_nano
from marketplace.jobs import services
from marketplace.jobs.models import Job
from tests.billing.statements.market import payout_account
from tests.cast import (
    PIXEL,
    SCHEMA,
    Cast,
    listed_version,
    make_cast,
    person,
    report_failed,
    report_finished,
    report_started,
)
from tests.invoicing import charge

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
HOOK = "https://192.0.2.1/hook"  # of the range for documentation: nobody is there
MONTHS_BACK = 30


@dataclass
class Market:
    """The cast, what examples of routes name, and how many rows of each kind there are."""

    cast: Cast
    dora: User
    rows: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    invitation: str = ""
    wizard: str = "dusk"
    worker: str = "w-1"
    licence: Licence | None = None
    months: list[date] = field(default_factory=list)

    @property
    def invoice(self) -> Invoice:
        return Invoice.objects.for_org(self.cast.developer).exclude(number="").latest("month")

    @property
    def mail_key(self) -> str:
        """What the mail says that confirms an address."""
        address, _ = EmailAddress.objects.get_or_create(
            user=self.cast.alice, email="alice@example.net"
        )
        return str(EmailConfirmationHMAC(address).key)

    @property
    def statement(self) -> Statement:
        return Statement.objects.for_org(self.cast.vendor).latest("month")


def market_make() -> Market:
    """People, one listed model and its money: the market before anything has happened."""
    cast = make_cast()
    dora = person("dora")
    Membership.objects.create(org=cast.developer, user=dora, role=Role.BILLING)
    for user in (cast.alice, cast.bob, cast.charlie, cast.sam, dora):
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    for user in (cast.bob, cast.sam):
        TOTP.activate(user, generate_totp_secret())
        RecoveryCodes.activate(user)
    Group.objects.create(name="Reviewers")
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("1000"))
    for org in (cast.developer, cast.vendor):
        endpoint_create(org=org, url="https://93.184.215.14/account", note="Accounts")
    cast.developer.refresh_from_db()
    BillingProfile.objects.update_or_create(
        org=cast.developer,
        defaults={"legal_name": "Bob's Builders GmbH", "address": "Street 1", "country": "DE"},
    )
    payout_account(cast.vendor)
    return Market(cast, dora)


def market_fill(market: Market, rows: int) -> None:
    """Grow until every list has about `rows` rows. What is sent to workers waits: none listens."""
    with override_settings(
        INVOICE_SURGE_FLOOR_USD="1000000", OUTBOUND_ALLOW_CIDRS=["192.0.2.0/24"]
    ):
        for number in range(market.rows, rows):
            _round(market, number)
            market.rows = number + 1
        meters.batches_seal()


def _round(market: Market, number: int) -> None:
    _jobs(market, number)
    _account(market, number)
    _listings(market, number)
    _incoming(market, number)
    _month(market, number)
    if number == 0:
        _wizard(market)
        worker_beat(market)
    _rare(market, number)
    _hour_checked(market)


def _jobs(market: Market, number: int) -> None:
    cast = market.cast
    for state in STATES:
        made, _ = services.job_submit(
            org=cast.developer,
            ref=cast.ref,
            given={"prompt": f"a red circle, take {number}", "num_images": 2},
            api_key=cast.key,
            webhook_url=HOOK,
        )
        job = Job.objects.select_related("version__model__org").get(pk=made.pk)
        if state == "cancelled":
            services.job_cancel(org=cast.developer, job=job)
        elif state != "queued":
            services.job_started(report_started(job))
        if state == "succeeded":
            services.job_finished(report_finished(job, count=2))
        elif state == "failed":
            services.job_failed(report_failed(job, "out_of_memory"))
        job.refresh_from_db()
        market.jobs[state] = job


def _account(market: Market, number: int) -> None:
    """Keys, projects, members, invitations and what the account was told."""
    cast = market.cast
    project = projects.project_create(
        org=cast.developer, name=f"Film {number}", monthly_budget_nano=to_nano("3")
    )
    accounts.api_key_create(
        org=cast.developer, name=f"key {number}", created_by=cast.bob, project=project,
        monthly_budget_nano=to_nano("2"), allowed_models=[cast.ref],
    )  # fmt: skip
    member = person(f"member-{number}")
    Membership.objects.create(org=cast.developer, user=member, role=Role.DEVELOPER)
    _, market.invitation = accounts.invitation_create(
        org=cast.developer, email=f"new-{number}@example.org", role=Role.DEVELOPER,
        invited_by=cast.bob,
    )  # fmt: skip
    events.event_create(
        org=cast.developer, event="budget.alert", source=number, data={"percent": 80}
    )
    Alert.objects.create(
        org=cast.developer, subject_id=project.pk, subject=f"project {project.name}",
        month=now().date().replace(day=1), percent=80, spent_nano=to_nano("2.4"),
        limit_nano=to_nano("3"),
    )  # fmt: skip
    accounts.organisation_create(name=f"Second home {number}", owner=cast.bob)


def _listings(market: Market, number: int) -> None:
    """Models and versions in every state, licences, and prices for single customers."""
    cast = market.cast
    market.licence = catalog.licence_create(
        org=cast.vendor, slug=f"terms-{number}", title=f"Terms {number}", kind="non-commercial",
        text="For study.", revenue_share_bps=8000, royalty_bps=500,
    )  # fmt: skip
    acceptance.licence_accept(
        org=cast.developer, licence=market.licence, text_digest=market.licence.text_digest,
        declared_use="non-commercial", user=cast.bob,
    )  # fmt: skip
    derived = listed_version(
        cast.vendor, cast.licence, cast.sam, name=f"derived-{number}", base=cast.version
    )
    catalog.price_set(
        version=derived, unit="image", unit_price=Decimal("0.004"), free_quota=Decimal(1)
    )
    made, _ = services.job_submit(
        org=cast.developer, ref=derived.model.ref, given={"prompt": "free"}, user=cast.bob
    )
    services.job_finished(report_finished(Job.objects.get(pk=made.pk)))
    customer = accounts.organisation_create(name=f"Customer {number}", owner=cast.charlie)
    catalog.price_set(
        version=cast.version, unit="image", unit_price=Decimal("0.003"), for_org=customer
    )
    for state in (Status.DRAFT, Status.SUBMITTED, Status.SUSPENDED):
        _version(market, state, cast.version.model)
    _version(market, Status.LISTED, derived.model)


def _version(market: Market, state: Status, model: Model) -> Version:
    cast = market.cast
    version = catalog.version_create(
        model=model, licence=cast.licence, weights_uri="starter:starter-image",
        weights_digest="sha256:" + "0" * 64, family="flux", input_schema=SCHEMA,
    )  # fmt: skip
    catalog.price_set(version=version, unit="image", unit_price=Decimal("0.005"))
    sample_put(version=version, content=PIXEL, content_type="image/png", given={"prompt": "x"})
    catalog.version_submit(version=version)
    version.refresh_from_db()
    if state == Status.DRAFT:
        catalog.version_decide(version=version, after=state, by=cast.sam, note="Say more.")
    elif state in (Status.SUSPENDED, Status.LISTED):
        catalog.version_decide(version=version, after=Status.LISTED, by=cast.sam)
        version.refresh_from_db()
    if state == Status.SUSPENDED:
        catalog.version_decide(version=version, after=state, by=cast.sam, note="It broke.")
    return version


def _incoming(market: Market, number: int) -> None:
    """Money that comes in: top-ups in every state, one of them to be given back, grants."""
    cast, org = market.cast, market.cast.developer
    before = set(Transfer.objects.filter(kind="top_up").values_list("pk", flat=True))
    billing.credit_top_up(org_id=org.pk, amount_nano=to_nano("0.50"), source=f"page:{number}")
    transfer = Transfer.objects.filter(kind="top_up").exclude(pk__in=before).get()
    paid = TopUp.objects.create(
        org=org, cents=50, state="paid", transfer=transfer, by=cast.bob, ended_at=now(),
        payment_intent_id=f"pi_{number}", checkout_id=f"cs_{number}",
    )  # fmt: skip
    TopUp.objects.create(
        org=org, cents=500, state="failed", failure="The card was declined.", ended_at=now()
    )
    TopUpReturn.objects.create(
        id=new_id(), top_up=paid, org=org, cents=20, state="failed", delivery="failed",
        last_error="The card is closed.", ended_at=now(),
    )  # fmt: skip
    Dispute.objects.create(
        id=f"dp_{number}", reason="fraudulent", org=org, payment_intent_id=f"pi_other_{number}",
        cents=900, state="won", ended_at=now(),
    )  # fmt: skip
    billing.credit_grant(
        org_id=org.pk, amount_nano=to_nano("0.01"), source=f"trial:{number}",
        expires_at=now() + timedelta(days=30), vendor_id=cast.vendor.pk, note="For trying it out",
    )  # fmt: skip


def _month(market: Market, number: int) -> None:
    """An invoice and a statement of a month gone by, half of them paid, some given back."""
    cast = market.cast
    first = _month_back(MONTHS_BACK - number)
    at = datetime(first.year, first.month, 15, 12, tzinfo=UTC)
    usage = [
        charge(cast.developer, cast.vendor, to_nano("3.005"), at=at + timedelta(hours=hour))
        for hour in range(2)
    ]
    invoices.close(first)
    invoice = Invoice.objects.for_org(cast.developer).get(month=first)
    charge_refund(source_id=usage[0], key="page", reason=RefundReason.STAFF, by=cast.sam,
                  amount_nano=to_nano("0.50"), note="It was blurred.")  # fmt: skip
    if number % 2:
        invoice_paid(invoice_id=invoice.pk)
    statement_close(org_id=cast.vendor.pk, month=first)
    market.months.append(first)


def _rare(market: Market, number: int) -> None:
    """What only staff see."""
    Incident.objects.create(rule=f"a rule of round {number}", detail="A row was odd.")
    Promotion.objects.create(
        code=f"CODE-{number}", amount_nano=to_nano("2"), created_by=market.cast.sam
    )
    Report.objects.create(
        model=market.cast.version.model, reason="copyright", text="It is mine.",
        email="somebody@example.org", user=market.cast.charlie,
    )  # fmt: skip
    StaffAct.objects.create(by=market.cast.sam, verb="version.listed", subject=market.cast.ref)
    Flag.objects.create(name=f"flag-{number}")
    Switch.objects.create(name=f"switch-{number}")
    Sample.objects.create(name=f"sample-{number}", percent=50)
    StripeEvent.objects.create(
        id=f"evt_{number}", type="charge.refunded", payload={"data": {"object": {}}},
        delivery="failed", last_error="No such payment.",
    )  # fmt: skip


def _wizard(market: Market) -> None:
    """A listing half done, by the wizard's own pages: all but its price is there."""
    client, here = Client(), f"/vendor/models/{market.wizard}/listing/"
    client.force_login(market.cast.alice)
    about = {
        "name": market.wizard, "title": "Dusk", "task": "text-to-image",
        "category": "illustration", "visibility": "public",
    }  # fmt: skip
    inputs = {"family": "flux", "hardware_class": "small", "max_engine_s": "60"}
    steps = [
        ("/vendor/models/new/", about),
        (f"{here}weights/", {"uri": "hub://someone/dusk@main", "digest": "sha256:" + "a" * 64}),
        (f"{here}inputs/", {**inputs, "input_schema": json.dumps(SCHEMA)}),
        (f"{here}terms/", {"licence": str(market.cast.licence.pk)}),
        (f"{here}test/", {"in-prompt": "a red circle", "in-num_images": "2"}),
    ]
    for path, given in steps:
        answer = client.post(path, given)
        assert answer.status_code == 302, (path, answer.content.decode()[-2000:])
    made = Job.objects.select_related("version__model__org").latest("created_at")
    services.job_started(report_started(made))
    assert services.job_finished(report_finished(made, count=2))


def worker_beat(market: Market) -> None:
    """One worker is alive, and stays so while the market is there."""
    beat = protocol.Heartbeat(
        worker_id=market.worker, hostname="box", device="cuda", device_name="A card",
        memory_bytes=2**34, classes=["small"], slots=4, busy=[str(market.jobs["running"].pk)],
        loaded=[str(market.cast.version.pk)], started_at=time.time() - 90, at=time.time(),
    )  # fmt: skip
    client: Any = valkey.client()
    client.sadd(protocol.WORKERS_KEY, market.worker)
    client.set(protocol.worker_key(market.worker), json.dumps(beat.to_dict()))


def _hour_checked(market: Market) -> None:
    """An hour of usage that was compared with what Stripe says of it, before the ones there are."""
    earliest = MeterHour.objects.order_by("hour").first()
    last = earliest.hour if earliest else now().replace(minute=0, second=0, microsecond=0)
    hour = last - timedelta(hours=1)
    MeterHour.objects.create(
        org=market.cast.developer, funding=Funding.POSTPAID, hour=hour, sent_micro_usd=3_005_000,
        seen_micro_usd=3_005_000, checked_at=now(),
    )  # fmt: skip


def _month_back(months: int) -> date:
    today = now().date()
    index = today.year * 12 + today.month - 1 - months
    return date(index // 12, index % 12 + 1, 1)
