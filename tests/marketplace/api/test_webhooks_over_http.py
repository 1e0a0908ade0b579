"""A program sets up endpoints, looks at deliveries, sends them again and changes the secret."""

import pytest
from rest_framework.test import APIClient
from standardwebhooks.webhooks import Webhook

from marketplace.accounts import endpoints, events, projects, rotation
from marketplace.accounts import services as accounts
from marketplace.accounts.models import AuditEvent, Organisation
from marketplace.accounts.webhook_models import AccountEvent, WebhookEndpoint
from marketplace.jobs import services, webhooks
from marketplace.jobs.models import WebhookDelivery
from tests.cast import report_finished
from tests.receiver import receiver

__all__ = ["receiver"]

HERE = "/v1/webhooks"


@pytest.fixture
def admin(cast):
    return client_of(cast.developer, scopes=("admin",))


def client_of(org, **given):
    _, secret = accounts.api_key_create(org=org, name="hooks", **given)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def make(admin, url="https://example.org/hook", **more):
    answer = admin.post(f"{HERE}/endpoints", {"url": url, **more}, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def end_a_job(cast, url=""):
    job, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "x"}, webhook_url=url
    )
    services.job_finished(report_finished(job))


def test_an_endpoint_lives_by_its_routes(admin):
    row = make(admin, events=["job.failed"], note="Film")
    assert (row["events"], row["note"], row["on"]) == (["job.failed"], "Film", True)
    path = f"{HERE}/endpoints/{row['id']}"
    assert admin.get(path).json() == row
    assert admin.get(f"{HERE}/endpoints").json()["results"] == [row]
    changed = admin.patch(path, {"on": False, "events": ["balance.low"]}, format="json").json()
    assert (changed["on"], changed["events"], changed["off_why"]) == (False, ["balance.low"], "")
    assert admin.delete(path).status_code == 204
    assert admin.get(path).status_code == 404
    assert admin.get(f"{HERE}/endpoints").json()["results"] == []


def test_an_event_that_is_none_is_answered_with_those_that_are(admin):
    url = "https://example.org/hook"
    for event in ("webhook.test", "job.nope"):
        answer = admin.post(f"{HERE}/endpoints", {"url": url, "events": [event]}, format="json")
        assert answer.status_code == 422
        said = str(answer.json()["error"])
        assert f'"{event}" is none that endpoints hear of: job.succeeded, ' in said
    answer = admin.post(f"{HERE}/endpoints", {"url": url, "events": []}, format="json")
    assert "Name at least one." in str(answer.json()["error"])


@pytest.mark.parametrize("url", ["http://localhost:3000/hook", "http://169.254.169.254/latest"])
def test_an_address_of_our_own_is_refused_when_it_is_saved(admin, url):
    answer = admin.post(f"{HERE}/endpoints", {"url": url}, format="json")
    assert answer.status_code == 422
    assert "public address" in answer.json()["error"]["fields"]["url"][0]


def test_without_events_it_is_told_of_all(admin):
    assert make(admin)["events"] == list(endpoints.ALL_EVENTS)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "ftp://example.org"}, "url"),
        ({"url": "https://example.org/" + 700 * "\u4e16"}, "url"),
        ({}, "url"),
        ({"url": "https://example.org", "events": ["job.begun"]}, "events.0"),
        ({"url": "https://example.org", "events": []}, "events"),
        ({"url": "https://example.org", "colour": "red"}, "colour"),
    ],
)
def test_bad_input_is_named(admin, body, field):
    answer = admin.post(f"{HERE}/endpoints", body, format="json")
    assert answer.status_code == 422
    assert field in answer.json()["error"]["fields"]
    assert not WebhookEndpoint.objects.exists()


def test_ten_are_the_most(admin):
    for number in range(10):
        make(admin, f"https://example.org/{number}")
    answer = admin.post(f"{HERE}/endpoints", {"url": "https://example.org/x"}, format="json")
    assert answer.status_code == 409


def test_a_test_event_arrives_and_its_delivery_says_so(admin, receiver):
    row = make(admin, receiver.url)
    sent = admin.post(f"{HERE}/endpoints/{row['id']}/test")
    assert (sent.status_code, sent.json()["event"]) == (202, "webhook.test")
    assert events.events_send() == 1
    assert receiver.seen[0][0]["webhook-id"] == sent.json()["id"]
    told = admin.get(f"{HERE}/deliveries/{sent.json()['id']}").json()
    assert (told["status"], told["last_status"], told["next_attempt_at"]) == (
        "delivered",
        200,
        None,
    )
    assert told["payload"]["type"] == "webhook.test"


def test_deliveries_are_listed_narrowed_and_paged(admin, cast, receiver):
    row = make(admin, receiver.url)
    for _ in range(3):
        end_a_job(cast)
    end_a_job(cast, f"{receiver.url}/own")
    admin.post(f"{HERE}/endpoints/{row['id']}/test")
    everything = admin.get(f"{HERE}/deliveries").json()["results"]
    assert len(everything) == 6
    assert [each["kind"] for each in everything].count("account") == 1

    def count(query):
        return len(admin.get(f"{HERE}/deliveries?{query}").json()["results"])

    assert (count("kind=job"), count("status=delivered")) == (5, 0)
    assert count(f"endpoint={row['id']}") == 5
    seen, url = [], f"{HERE}/deliveries?limit=4"
    while url:
        page = admin.get(url).json()
        seen += [each["id"] for each in page["results"]]
        url = page["next"]
    assert seen == [each["id"] for each in everything]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("kind=other", 422), ("status=lost", 422), ("endpoint=none", 404), ("cursor=x", 404),
        ("limit=0", 422), ("limit=x", 422), ("limit=99999999999", 422),
    ],
)  # fmt: skip
def test_odd_questions_are_no_faults(admin, query, status):
    assert admin.get(f"{HERE}/deliveries?{query}").status_code == status


def test_what_failed_is_sent_again(admin, cast, receiver):
    receiver.statuses = [410]
    row = make(admin, receiver.url)
    end_a_job(cast)
    webhooks.deliveries_send()
    path = f"{HERE}/endpoints/{row['id']}"
    assert "410" in admin.get(path).json()["off_why"]
    pk = WebhookDelivery.objects.get().pk
    for refused in (f"{HERE}/deliveries/{pk}/replay", f"{path}/replay", f"{path}/test"):
        assert admin.post(refused).status_code == 409
    assert admin.patch(path, {"on": True}, format="json").json()["off_why"] == ""
    answer = admin.post(f"{path}/replay")
    assert (answer.status_code, answer.json()) == (202, {"count": 1})
    assert admin.post(f"{HERE}/deliveries/{pk}/replay").status_code == 409, "still being tried"
    assert webhooks.deliveries_send() == 1
    assert admin.post(f"{HERE}/deliveries/{pk}/replay").json()["status"] == "pending"
    assert webhooks.deliveries_send() == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.seen}) == 1


def test_the_secret_is_read_and_rotated_on_record(admin, cast, receiver):
    old = admin.get(f"{HERE}/secret").json()["secret"]
    assert old == cast.developer.webhook_secret
    answers = [
        admin.post(f"{HERE}/secret/rotate", HTTP_IDEMPOTENCY_KEY="once").json() for _ in range(2)
    ]
    assert answers[0] == answers[1]
    new = answers[0]["secret"]
    assert new != old
    row = make(admin, receiver.url)
    admin.post(f"{HERE}/endpoints/{row['id']}/test")
    events.events_send()
    headers, body = receiver.seen[0]
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers)
    actions = AuditEvent.objects.filter(org=cast.developer).values_list("action", flat=True)
    assert list(actions).count("webhook.read") == list(actions).count("webhook.secret") == 1


def routes(row, pk):
    one = f"{HERE}/endpoints/{row.pk}"
    return [
        ("get", f"{HERE}/endpoints"), ("post", f"{HERE}/endpoints"), ("get", one), ("patch", one),
        ("delete", one), ("post", f"{one}/test"), ("post", f"{one}/replay"),
        ("get", f"{HERE}/deliveries"), ("get", f"{HERE}/deliveries/{pk}"),
        ("post", f"{HERE}/deliveries/{pk}/replay"), ("get", f"{HERE}/secret"),
        ("post", f"{HERE}/secret/rotate"),
    ]  # fmt: skip


@pytest.fixture
def bobs(cast):
    """An endpoint of Bob's, and a delivery to it that was given up."""
    row = endpoints.endpoint_create(org=cast.developer, url="https://example.org/hook")
    end_a_job(cast)
    WebhookDelivery.objects.update(delivery="failed")
    return row, WebhookDelivery.objects.get().pk


def test_another_organisation_finds_nothing_and_changes_nothing(cast, bobs):
    row, pk = bobs
    charlie = client_of(cast.stranger, scopes=("admin",))
    before = list(WebhookEndpoint.objects.values()), list(WebhookDelivery.objects.values())
    secret = cast.developer.webhook_secret
    for verb, path in routes(row, pk):
        if str(row.pk) in path or str(pk) in path:
            answer = getattr(charlie, verb)(path, {"on": False}, format="json")
            assert answer.status_code == 404, (verb, path)
    assert charlie.get(f"{HERE}/deliveries").json()["results"] == []
    assert charlie.get(f"{HERE}/endpoints").json()["results"] == []
    assert charlie.get(f"{HERE}/deliveries?endpoint={row.pk}").status_code == 404
    assert charlie.get(f"{HERE}/secret").json()["secret"] != secret
    charlie.post(f"{HERE}/secret/rotate")
    assert Organisation.objects.get(pk=cast.developer.pk).webhook_secret == secret
    assert before == (
        list(WebhookEndpoint.objects.values()), list(WebhookDelivery.objects.values()),
    )  # fmt: skip
    assert not AccountEvent.objects.exists()


def test_a_key_without_the_scope_or_with_limits_is_kept_out(cast, bobs):
    runs = client_of(cast.developer, scopes=("run", "read", "billing"))
    project = projects.project_create(org=cast.developer, name="Film", monthly_budget_nano=None)
    bounded = client_of(cast.developer, scopes=("admin",), project=project)
    for verb, path in routes(*bobs):
        for client in (runs, bounded):
            answer = getattr(client, verb)(path, {"url": "https://example.org"}, format="json")
            assert answer.status_code == 403, (verb, path)
    assert rotation.rotation_mark(Organisation.objects.get(pk=cast.developer.pk)) == ""
