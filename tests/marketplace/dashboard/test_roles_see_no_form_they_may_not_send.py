"""A form is shown to the roles that may send it; others read, or are told who may."""

from django.urls import reverse


def test_billing_begins_no_listing(dora):
    answer = dora.get(reverse("vendor-model-create"))
    assert answer.status_code == 403
    assert b"<form method" not in answer.content.split(b"<main")[1]
    assert b"List your first model" not in dora.get(reverse("vendor-analytics")).content


def test_a_developer_begins_a_listing(bob):
    assert bob.get(reverse("vendor-model-create")).status_code == 200


def test_a_developer_reads_a_made_up_name_of_the_worker(bob, make_job):
    job = make_job("succeeded")
    assert job.worker_id
    page = bob.get(reverse("job", args=[job.pk])).content.decode()
    assert "Started on worker-" in page
    assert f"Started on {job.worker_id}" not in page
