"""Staff replay a failed meter batch, or say that Stripe has it; both only if they may."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission

from billing import meters
from billing.models import MeterBatch
from marketplace.core.clock import now
from marketplace.jobs import services
from tests.cast import person, report_finished, staff_sign_in

pytestmark = pytest.mark.django_db
PAGE = "/console/billing/meterbatch/"


@pytest.fixture
def batch(cast, settings):
    settings.METER_SEAL_AFTER_S = 0
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_finished(report_finished(job))
    meters.batches_seal()
    MeterBatch.objects.update(delivery="failed", first_attempt_at=now(), last_error="in doubt")
    return MeterBatch.objects.get()


def act(client, batch, action):
    form = {"action": action, "_selected_action": str(batch.pk)}
    answer = client.post(PAGE, form, follow=True)
    batch.refresh_from_db()
    return answer.content.decode()


def test_a_replay_remembers_that_it_was_sent(client, cast, batch):
    staff_sign_in(client, cast.sam)
    assert "1 rows are due again" in act(client, batch, "replay")
    assert batch.delivery == "pending"
    assert batch.first_attempt_at is not None


def test_what_stripe_has_counts_as_delivered_and_who_said_so_is_kept(client, cast, batch):
    staff_sign_in(client, cast.sam)
    assert "1 batches count as delivered" in act(client, batch, "known_to_stripe")
    assert (batch.delivery, batch.last_error) == ("delivered", "")
    assert batch.delivered_at is not None
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (cast.sam, str(batch.pk))
    assert "0 batches count" in act(client, batch, "known_to_stripe")


def test_who_may_only_look_settles_nothing(client, batch):
    viewer = person("stan", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_meterbatch"))
    staff_sign_in(client, viewer)
    act(client, batch, "known_to_stripe")
    assert batch.delivery == "failed"
