"""Test runs: free of one's own, at the listed price of others', and with nobody else's weights."""

from dataclasses import replace

import pytest

from billing.models import Charge
from billing.services import credit_top_up
from inference.protocol import FAILURES
from marketplace.catalog import services as catalog
from marketplace.catalog.listing_models import UploadState, WeightsUpload
from marketplace.catalog.models import Model, Version
from marketplace.core.errors import InsufficientFunds, InvalidInput, NotAllowed
from marketplace.core.money import to_nano
from marketplace.jobs import dispatch, services
from marketplace.jobs.draft_runs import draft_run
from tests.cast import (
    SCHEMA,
    listed_version,
    open_licence,
    report_failed,
    report_finished,
    report_started,
)

FREE = {"weights_uri": "hub://charlie/dusk", "weights_digest": "sha256:" + "c" * 64}
LORA = {"weights_uri": "starter:night", "weights_digest": "sha256:" + "d" * 64, "lora": True}


def draft(cast, *, base=None, name="dusk", share=9500, **parts):
    licence = open_licence(cast.stranger, share=share, royalty=0)
    model = catalog.model_create(org=cast.stranger, name=name, title="Dusk", task="text-to-image")
    return catalog.version_create(
        model=model,
        licence=licence,
        base=base,
        family="flux",
        **{"input_schema": SCHEMA, **(parts or FREE)},
    )


def run(cast, version, **given):
    given = {"prompt": "x", **given}
    return draft_run(org=cast.stranger, version=version, given=given, user=cast.charlie)


def test_a_run_on_anothers_model_costs_what_a_call_of_it_does(cast):
    credit_top_up(org_id=cast.stranger.pk, amount_nano=to_nano("1"), source="test")
    job = run(cast, draft(cast, base=cast.version, **LORA), num_images=2)
    services.job_started(report_started(job))
    services.job_finished(report_finished(job, count=2))
    job.refresh_from_db()
    assert job.charge_nano == to_nano("0.008")
    whose = [(share["org_id"], share["bps"]) for share in job.shares]
    assert whose == [(str(cast.vendor.pk), 8000)]  # as of a call of atelier/sketch itself
    assert Charge.objects.get(source_id=job.pk).vendors_nano == to_nano("0.0064")


def test_a_run_of_ones_own_is_free(cast):
    job = run(cast, draft(cast))
    assert (job.quote_nano, job.shares) == (0, [])


def test_who_cannot_pay_gets_no_run_on_anothers_model(cast):
    catalog.price_set(version=cast.version, unit="image", unit_price=100)
    with pytest.raises(InsufficientFunds):
        run(cast, draft(cast, base=cast.version, **LORA))


def test_the_licence_of_the_base_is_accepted_first(cast):
    terms = catalog.licence_create(
        org=cast.vendor, slug="nc", title="NC", kind="non-commercial", text="No money.",
        revenue_share_bps=8000, royalty_bps=1000,
    )  # fmt: skip
    base = listed_version(cast.vendor, terms, cast.sam, name="study")
    with pytest.raises(NotAllowed, match="has not accepted the licence NC"):
        run(cast, draft(cast, base=base, **LORA))


def test_a_run_is_short_and_takes_no_loras(cast, settings):
    settings.TEST_RUN_MAX_ENGINE_S = 30
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "loras": {"type": "array"}}}
    version = draft(cast, **FREE, input_schema=schema)
    assert dispatch.message_for(run(cast, version)).max_engine_s == 30
    with pytest.raises(InvalidInput, match="takes no LoRAs"):
        run(cast, version, loras=[{"uri": "atelier/night:1"}])


@pytest.mark.parametrize("uri", ["starter:sunset", "hub://charlie/dusk"])
def test_the_digest_of_anothers_version_is_not_run_under_another_address(cast, uri):
    digest = "sha256:" + "e" * 64
    version = draft(cast, weights_uri=uri, weights_digest=digest)
    listed_version(
        cast.vendor, cast.licence, cast.sam, name="gem",
        weights_uri="hub://atelier/gem", weights_digest=digest,
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="listed for another vendor first"):
        run(cast, version)


def test_the_digest_of_anothers_upload_and_files_of_workers_are_not_run(cast):
    WeightsUpload.objects.create(
        org=cast.vendor,
        model=Model.objects.get(name="sketch"),
        files=[],
        digest=FREE["weights_digest"],
        state=UploadState.READY,
    )
    with pytest.raises(InvalidInput, match="not the digest of weights of yours"):
        run(cast, draft(cast))
    local = {"weights_uri": "file:///srv/models/dusk", "weights_digest": "sha256:" + "f" * 64}
    version = draft(cast, name="dawn", **local)
    with pytest.raises(InvalidInput, match="runs from an upload"):
        run(cast, version)
    assert Version.objects.filter(model__org=cast.stranger).count() == 2


def test_the_digest_that_lies_at_an_address_is_told_to_nobody(cast):
    job = run(cast, draft(cast))
    found = "weights hub://charlie/dusk have the digest sha256:" + "9" * 64
    services.job_failed(replace(report_failed(job, "weights_mismatch"), message=found))
    job.refresh_from_db()
    assert job.status == "failed"
    assert job.error_message == FAILURES["weights_mismatch"]
