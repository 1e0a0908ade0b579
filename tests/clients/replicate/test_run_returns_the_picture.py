"""`replicate.run` of the published client returns what the model made."""

import httpx

from marketplace.jobs.models import Job
from tests.cast import PIXEL
from tests.clients.conftest import working


def test_a_model_by_name(market, client):
    with working():
        (picture,) = client.run(market.ref, input={"prompt": "a red circle"})
    assert httpx.get(picture).content == PIXEL
    job = Job.objects.get()
    assert (job.status, job.charge_nano, job.door) == ("succeeded", 4_000_000, "replicate")
    assert job.api_key_id == market.key.pk


def test_a_version_by_its_id(market, client):
    with working():
        made = client.run(
            f"{market.ref}:{market.version.pk}", input={"prompt": "a red circle", "num_images": 2}
        )
    assert len(made) == 2
    assert Job.objects.get().version_id == market.version.pk
