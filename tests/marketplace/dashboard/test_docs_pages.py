"""The docs: every link and anchor leads somewhere, search finds, samples are what the API takes."""

import json
import re
from html.parser import HTMLParser

import jsonschema
import pytest
import yaml
from django.conf import settings
from standardwebhooks.webhooks import Webhook

from marketplace.core.clock import now
from marketplace.dashboard.reference import reference
from marketplace.dashboard.views.docs import PAGES, search

PATHS = ["/docs/", "/docs/api/", *(f"/docs/{slug}/" for slug in PAGES)]
FOLDER = settings.BASE_DIR / "templates" / "docs"


class Links(HTMLParser):
    """Collects the targets and the ids of a page."""

    def __init__(self, page):
        super().__init__()
        self.hrefs, self.ids = set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.hrefs.add(given["href"])


def test_every_file_is_a_page_and_every_page_a_file():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PAGES)


def test_every_internal_link_and_anchor_resolves(bob, cast):
    pages = {}

    def read(path):
        if path not in pages:
            answer = bob.get(path)
            assert answer.status_code in (200, 302), path
            pages[path] = Links(answer.content.decode())
        return pages[path]

    broken = []
    for path in PATHS:
        for href in read(path).hrefs:
            place, _, anchor = href.partition("#")
            if re.match(r"[a-z]+:", place):
                continue
            target = read(place.partition("?")[0] or path)
            if anchor and anchor not in target.ids:
                broken.append((path, href))
    assert broken == []


def test_a_page_leads_to_the_ones_before_and_after_it(visitor, db):
    page = visitor.get("/docs/keys/").content.decode()
    assert '<a rel="prev" href="/docs/quickstart/">' in page
    assert '<a rel="next" href="/docs/jobs/">' in page


def test_code_can_be_copied_and_is_text(visitor, db):
    page = visitor.get("/docs/webhooks/").content.decode()
    assert page.count("data-copy=") == page.count("<pre ")
    assert "&quot;webhook-timestamp&quot;" in page


def test_search_finds_the_section_where_the_words_stand():
    first = search("leaks")[0]
    assert (first.slug, first.anchor) == ("keys", "when-a-key-leaks")
    assert search("zebra quagga") == []


def test_search_works_as_a_page_and_as_a_fragment(visitor, db):
    assert b"/docs/webhooks/#check-the-signature" in visitor.get("/docs/?q=signature").content
    htmx = {"HX-Request": "true", "HX-Target": "docs-found"}
    assert b"<html" not in visitor.get("/docs/?q=signature", headers=htmx).content
    assert b"Nothing for" in visitor.get("/docs/?q=zebra").content


def test_the_reference_has_every_operation_of_the_schema(visitor, db):
    schema = yaml.safe_load(visitor.get("/v1/openapi.yaml").content)
    ids = {
        node["operationId"]
        for methods in schema["paths"].values()
        for method, node in methods.items()
        if method != "parameters"
    }
    page = Links(visitor.get("/docs/api/").content.decode())
    assert ids <= page.ids
    assert {op.name for _, _, ops in reference().groups for op in ops} == ids


def blocks(kind):
    return list(_blocks(kind))


def _blocks(kind):
    for slug in PAGES:
        text = (FOLDER / f"{slug}.md").read_text()
        for number, found in enumerate(re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)):
            yield pytest.param(slug, found, id=f"{slug}-{number}")


@pytest.mark.parametrize(("slug", "text"), blocks("json"))
def test_every_json_sample_is_json(slug, text):
    json.loads(text)


@pytest.mark.parametrize(("slug", "text"), blocks("python"))
def test_every_python_sample_compiles(slug, text):
    compile(text, slug, "exec")


@pytest.mark.parametrize(("slug", "text"), blocks(""))
def test_every_request_of_a_sample_is_one_of_the_api(slug, text):
    paths = {re.sub(r"\{\w+\}", "[^/]+", op.path) for _, _, ops in reference().groups for op in ops}
    for path in re.findall(r"\{\{ PUBLIC_URL \}\}(/v1/[^\s\"']*)", text):
        assert any(re.fullmatch(pattern, path) for pattern in paths), path


@pytest.mark.parametrize("slug", ["quickstart", "webhooks"])
def test_the_first_request_of_a_page_is_taken_as_it_stands(cast, client, slug):

    text = (FOLDER / f"{slug}.md").read_text().replace("starter-lab/starter-image", cast.ref)
    body = json.loads(re.search(r"-d '(\{.*?\})'", text, re.DOTALL)[1])
    body.pop("webhook_url", None)  # the test's network knows no example.com
    answer = client.post(
        "/v1/jobs", body, "application/json", headers={"Authorization": f"Bearer {cast.secret}"}
    )
    assert answer.status_code == 202, answer.content
    assert answer.json()["status"] == "queued"


def test_the_sample_that_checks_a_webhook_knows_ours_from_others():
    text = (FOLDER / "webhooks.md").read_text()
    scope = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], scope)
    check = scope["is_from_mercato"]
    secret, body, moment = "whsec_" + "c2VjcmV0" * 4, b'{"type":"job.succeeded"}', now()
    headers = {
        "webhook-id": "msg",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg", moment, body.decode()),
    }
    assert check(secret, headers, body)
    assert not check(secret, headers, body + b" ")
    assert not check("whsec_" + "b3RoZXIh" * 4, headers, body)
    for name in headers:
        assert not check(secret, {k: v for k, v in headers.items() if k != name}, body)
        assert not check(secret, headers | {name: "1"}, body)
        assert not check(secret, headers | {name: "ü"}, body)


def test_the_body_of_the_webhook_sample_has_the_fields_that_are_sent(make_job):
    from marketplace.core.webhooks import payload_of
    from marketplace.jobs.webhooks import _data

    text = (FOLDER / "webhooks.md").read_text()
    shown = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    sent = payload_of("job.succeeded", _data(make_job()))
    assert shown.keys() == sent.keys()
    assert shown["data"].keys() == sent["data"].keys()
    assert list(shown["data"]) == sorted(shown["data"], key=lambda name: (len(name), name))


def test_the_openapi_file_says_what_needs_no_key(visitor, db):
    schema = yaml.safe_load(visitor.get("/v1/openapi.yaml").content)
    jsonschema.Draft202012Validator.check_schema(schema["components"]["schemas"]["Job"])
    assert {} in schema["paths"]["/v1/models"]["get"]["security"]
    assert {} not in schema["paths"]["/v1/jobs"]["post"]["security"]
