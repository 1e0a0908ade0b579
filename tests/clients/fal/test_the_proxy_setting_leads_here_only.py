"""`proxyUrl` of the npm client: the header chooses one of our routes, and is never fetched."""

import httpx
import pytest

from marketplace.jobs.models import Job
from tests.clients.conftest import working

GIVEN = {"prompt": "a red circle"}


def through(market, target, method="POST", secret=None, **more):
    headers = {"Authorization": f"Key {secret or market.secret}", "x-fal-target-url": target}
    return httpx.request(method, f"{market.url}/api/fal/proxy", headers=headers, timeout=30, **more)


def test_calls_the_queue_and_tokens(market, settings):
    settings.FAL_HOSTS = {}  # it needs none
    with working():
        made = through(market, f"https://fal.run/{market.ref}", json=GIVEN)
        assert made.json()["seed"] == 7
    asked = through(
        market,
        f"https://queue.fal.run/{market.ref}?fal_webhook=https%3A%2F%2Fexample.org%2Fhook",
        json=GIVEN,
    )
    job = Job.objects.latest("created_at")
    assert asked.json()["request_id"] == str(job.pk)
    assert job.webhook_url == "https://example.org/hook"
    here = f"https://queue.fal.run/{market.ref}/requests/{job.pk}"
    assert through(market, f"{here}/status?logs=1", "GET").json()["logs"] == []
    assert through(market, f"{here}/cancel", "PUT").status_code == 202
    assert isinstance(through(market, "https://rest.fal.ai/tokens/", json={}).json(), str)


def test_the_key_is_the_callers_own(market):
    target = f"https://fal.run/{market.ref}"
    assert through(market, target, json=GIVEN, secret="mk_nonsense").status_code == 401
    assert through(market, target, json=GIVEN, secret=market.stranger_secret).status_code == 402
    answer = httpx.post(
        f"{market.url}/api/fal/proxy", json=GIVEN, headers={"x-fal-target-url": target}
    )
    assert answer.status_code == 401
    assert Job.objects.count() == 0


TARGETS = [
    "", "fal.run/atelier/sketch", "http://fal.run/atelier/sketch", "file:///etc/passwd",
    "https://example.org/", "https://fal.run.example.org/", "https://example.org/https://fal.run/",
    "https://fal.run@example.org/", "https://example.org#@fal.run/", "https://user@fal.run/",
    "https://fal.run:8443/", "https://fal.run:x/", "https://127.0.0.1/", "https://[::1]/",
    "https://169.254.169.254/latest/meta-data/", "https://xfal.run/", "https://fal.ai/",
    "//fal.run/atelier/sketch", "https:///atelier/sketch", "https://[fal.run/", "ws://fal.run/x",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_other_targets_are_refused(market, target):
    answer = through(market, target, json=GIVEN)
    assert answer.status_code == 400
    assert "names no address of fal's" in answer.json()["detail"]
    assert Job.objects.count() == 0


def test_nothing_is_fetched(market, receiver):
    for target in (receiver.url, receiver.url.replace("http:", "https:")):
        assert through(market, target, json=GIVEN).status_code == 400
    assert receiver.seen == []


@pytest.mark.parametrize(
    "target",
    [
        "https://fal.run/../../v1/jobs",
        "https://fal.run/%2e%2e/%2e%2e/v1/jobs",
        "https://queue.fal.run/..%2f..%2fv1%2fjobs",
        "https://rest.fal.ai/v1/jobs",
        "https://rest.fal.ai//v1/jobs",
        "https://v3.fal.media/../replicate/v1/files",
        "https://fal.run",
        "https://fal.run/api/fal/proxy",
    ],
)
def test_no_way_leads_out_of_the_door(market, target):
    for method in ("GET", "POST"):
        answer = through(market, target, method)
        assert answer.status_code in (404, 405)
        assert "results" not in answer.json()


def test_the_header_means_nothing_elsewhere(market):
    headers = {
        "Authorization": f"Key {market.secret}",
        "x-fal-target-url": "https://rest.fal.ai/tokens/",
    }
    answer = httpx.post(f"{market.url}/fal/queue/{market.ref}", json=GIVEN, headers=headers)
    assert answer.json()["request_id"] == str(Job.objects.get().pk)
    assert httpx.get(f"{market.url}/healthz", headers=headers).json() == {"ok": True}


def test_fals_hosts_lead_nowhere_unless_an_operator_says_so(market, settings):
    assert httpx.get("https://fal.run/healthz").status_code == 404
    settings.FAL_HOSTS = {"queue.fal.run": "queue"}
    assert httpx.get("https://fal.run/healthz").json() == {"ok": True}, "a host like any other"
    settings.FAL_HOSTS = {"fal.run": "run"}
    settings.ALLOWED_HOSTS = ["127.0.0.1", "queue.fal.run"]
    headers = {"Authorization": f"Key {market.secret}"}
    answer = httpx.post(f"https://fal.run/{market.ref}", json=GIVEN, headers=headers)
    assert answer.status_code == 400, "a host that is not allowed is no host of ours"
    assert Job.objects.count() == 0
