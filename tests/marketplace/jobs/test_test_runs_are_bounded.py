"""Test runs are bounded by person, by seconds and by market, and the brakes hold them too."""

from datetime import timedelta

import pytest
from django.core.cache import caches
from waffle.testutils import override_switch

from marketplace.accounts import services as accounts
from marketplace.accounts.models import Organisation
from marketplace.catalog import rollouts, services, uploads
from marketplace.core import flags
from marketplace.core.clock import now
from marketplace.core.errors import NotAllowed, TooManyRequests, WrongState
from marketplace.jobs.draft_runs import draft_run
from tests.cast import SCHEMA, open_licence


def draft(org):
    model = services.model_create(org=org, name="dusk", title="Dusk", task="text-to-image")
    return services.version_create(
        model=model,
        licence=open_licence(org),
        family="flux",
        input_schema=SCHEMA,
        weights_uri="hub://charlie/dusk",
        weights_digest="sha256:" + "c" * 64,
    )


def run(cast, version):
    org = version.model.org
    return draft_run(org=org, version=version, given={"prompt": "x"}, user=cast.charlie)


def test_a_person_has_no_more_in_a_second_organisation(cast, settings):
    settings.TEST_RUNS_PER_HOUR = 1
    run(cast, draft(cast.stranger))
    second = accounts.organisation_create(name="Second", owner=cast.charlie)
    with pytest.raises(TooManyRequests, match="for one person"):
        run(cast, draft(second))


def test_seconds_on_the_device_are_bounded(cast, settings):
    settings.TEST_RUN_ENGINE_S_PER_HOUR = 200
    version = draft(cast.stranger)
    run(cast, version)  # of up to 120 s
    with pytest.raises(TooManyRequests, match="200 s on the device an hour"):
        run(cast, version)


def test_the_market_makes_so_many_in_an_hour(cast, settings):
    settings.TEST_RUNS_MARKET_PER_HOUR = 1
    run(cast, draft(cast.stranger))
    other = draft(cast.vendor)
    with pytest.raises(TooManyRequests, match="The market makes 1 test runs"):
        draft_run(org=cast.vendor, version=other, given={"prompt": "x"}, user=cast.alice)


def test_one_person_owns_so_many_organisations(cast, settings):
    settings.ORGANISATIONS_PER_USER = 1
    with pytest.raises(NotAllowed, match="at most 1"):
        accounts.organisation_create(name="Second", owner=cast.charlie)


def test_the_switch_for_calls_stops_test_runs(cast):
    version = draft(cast.stranger)
    caches["flags"].clear()  # kept from tests before
    with override_switch(flags.CALLS, active=False), pytest.raises(WrongState, match="no calls"):
        run(cast, version)
    caches["flags"].clear()


def test_a_suspended_vendor_tries_uploads_prices_and_rolls_out_nothing(cast):
    version, listed = draft(cast.stranger), cast.version
    sent = [{"path": "model_index.json", "size": 2}]
    upload = uploads.upload_begin(org=cast.vendor, model=listed.model, files=sent, lora=False)
    Organisation.objects.update(suspended_at=now())
    day = now() + timedelta(days=1)
    for attempt in (
        lambda: run(cast, version),
        lambda: uploads.upload_begin(org=cast.vendor, model=listed.model, files=sent, lora=False),
        lambda: uploads.upload_finish(upload=upload),
        lambda: services.price_set(version=listed, unit="image", unit_price=1),
        lambda: services.price_withdraw(version=listed, for_org=cast.developer),
        lambda: rollouts.canary_set(version=listed, percent=5),
        lambda: rollouts.promote(version=listed),
        lambda: rollouts.roll_back(model=listed.model),
        lambda: rollouts.deprecate(version=listed, ends_at=day),
        lambda: rollouts.keep(version=listed),
    ):
        with pytest.raises(NotAllowed, match="suspended"):
            attempt()
