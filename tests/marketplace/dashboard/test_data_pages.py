"""Pages say when data goes, and delete it for those who may."""

from marketplace.accounts.models import Organisation

SURE = {"confirmed": "yes"}


def test_a_jobs_page_says_when_its_files_go_and_deletes_them(bob, dora, charlie, make_job):
    job = make_job("succeeded")
    path = f"/dashboard/jobs/{job.pk}/"
    assert b"Inputs and outputs are deleted on" in bob.get(path).content
    assert b"Delete them now" not in dora.get(path).content
    assert dora.post(f"{path}purge/").status_code == 403
    assert charlie.post(f"{path}purge/").status_code == 404
    job.refresh_from_db()
    assert job.purged_at is None
    asked = bob.post(f"{path}purge/").content.decode()
    assert "They do not come back" in asked
    job.refresh_from_db()
    assert job.purged_at is None, "the page asks first, also without scripts"
    page = bob.post(f"{path}purge/", SURE, follow=True).content.decode()
    assert "What it cost is kept" in page
    assert "a red circle" not in page
    assert "1 × $0.004" in page, "the charge is still explained"
    assert "/files/" not in page


def test_a_live_job_is_not_deleted(bob, make_job):
    job = make_job("queued")
    page = bob.post(f"/dashboard/jobs/{job.pk}/purge/", SURE, follow=True).content
    assert b"Cancel it first" in page


def test_deletion_over_http(api, stranger_api, cast, make_job):
    job = make_job("succeeded")
    assert stranger_api.post(f"/v1/jobs/{job.pk}/purge").status_code == 404
    answer = api.post(f"/v1/jobs/{job.pk}/purge").json()
    assert (answer["input"], answer["result"]) == ({}, {})
    assert answer["purged_at"]
    assert answer["charge_lines"]


def test_retention_is_set_by_owners_and_admins(bob, dora, cast):
    path = "/dashboard/settings/retention/"
    assert dora.post(path, {"keep_days": "7"}).status_code == 403
    asked = bob.post(path, {"keep_days": "7"}).content.decode()
    assert '<input type="hidden" name="keep_days" value="7">' in asked
    assert Organisation.objects.get(pk=cast.developer.pk).keep_days is None
    assert bob.post(path, {"keep_days": "7"} | SURE).status_code == 302
    assert Organisation.objects.get(pk=cast.developer.pk).keep_days == 7
    assert b"<strong>7 days</strong>" in bob.get("/dashboard/settings/").content
    answer = bob.post(path, {"keep_days": "9999"})
    assert answer.status_code == 422
    assert b"1 to 365 days." in answer.content
    assert bob.post(path, {"keep_days": ""} | SURE).status_code == 302
    assert Organisation.objects.get(pk=cast.developer.pk).keep_days is None
