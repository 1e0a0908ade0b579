"""What a worker is told of the caller: which jobs are the same caller's, and no more."""

from inference.protocol import RunJob
from marketplace.catalog.models import Version
from marketplace.jobs import dispatch, services
from tests.cast import listed_version


def message(org, ref):
    return dispatch.message_for(services.job_submit(org=org, ref=ref, given={"prompt": "x"})[0])


def test_one_callers_jobs_have_one_tenant_and_anothers_another(cast):
    from billing.services import credit_top_up

    credit_top_up(org_id=cast.stranger.pk, amount_nano=10**9, source="test:stranger")
    first, second = (message(cast.developer, cast.ref) for _ in range(2))
    other = message(cast.stranger, cast.ref)
    assert first.tenant == second.tenant != ""
    assert other.tenant != first.tenant
    assert first.priority == 0


def test_nothing_in_it_is_the_organisation(cast):
    text = str(message(cast.developer, cast.ref).to_dict())
    assert str(cast.developer.pk) not in text
    assert cast.developer.slug not in text


def test_the_versions_profile_is_in_it(cast):
    profile = {"quality": "high", "optimisations": {"cache": True}, "defaults": {"steps": 4}}
    version = listed_version(cast.vendor, cast.licence, cast.sam, name="quick", profile=profile)
    assert Version.objects.get(pk=version.pk).profile == profile
    assert message(cast.developer, version.model.ref).version.profile == profile


def test_an_older_message_is_still_a_job(cast):
    data = message(cast.developer, cast.ref).to_dict()
    for name in ("tenant", "priority"):
        del data[name]
    for slot in data["uploads"]:
        del slot["content_type"]
    read = RunJob.from_dict(data)
    assert (read.tenant, read.priority, read.uploads[0].content_type) == ("", 0, "image/png")
