"""On every route of every door another organisation's key finds nothing, and changes nothing.

The routes come from the URLconf. A new one with a parameter of a new name fails here until
PARAMETERS says what somebody else's value is.
"""

import hashlib
import io
import uuid

import httpx
import pytest
from PIL import Image

from marketplace.core.storage import storage
from marketplace.jobs import services
from tests.cast import SCHEMA, listed_version
from tests.clients.belongings import belongings_of, rows
from tests.clients.routes import all_routes

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY")

PARAMETERS = {
    "owner": "atelier", "vendor": "atelier", "name": "secret", "alias": "secret",
    "slug": "nothing", "form": "url", "sub": "dev", "number": "1", "token": "x" * 40,
}  # fmt: skip
"""What is in a path beside the ids of `belongings_of`: a private model, and tokens not given."""

BY_DOOR = {
    # A request of fal's clients names the model too: the one that was called, which is public.
    "request_id": {"alias": "sketch"},
}
"""Values that go with another parameter."""

PLACE = "fal/cdn/files/<str:file_id>/multipart/<str:token>"
ARGUED = {
    # The text of a licence is read, and accepted, by whoever wants to call a public model.
    ("GET", "v1/licences/<str:licence_id>"): {200},
    ("HEAD", "v1/licences/<str:licence_id>"): {200},
    ("POST", "v1/licences/<str:licence_id>/accept"): {200, 422},
}
"""(method, route) that may answer something else than 404 or 405, and why."""

BODIES = {
    "v1/models/<str:vendor>/<str:name>/quote": {"input": {"prompt": "x"}},
    f"{PLACE}/complete": {"parts": [{"partNumber": 1, "etag": "x"}]},
    "v1/projects/<str:project_id>": {"name": "x"},
    "v1/keys/<str:key_id>/rotate": {"grace_hours": 0},
}
"""Bodies of routes that check the body first; others take one that names a private model."""

PICTURE = {"type": "string", "format": "file-id"}
NAMING = [
    ("v1/jobs", {"model": "atelier/secret", "input": {"prompt": "x"}}),
    ("v1/jobs", {"model": "atelier/painter", "input": {"prompt": "x", "image": "{file_id}"}}),
    ("v1/keys", {"name": "x", "scopes": ["run"], "project": "{project_id}"}),
    ("replicate/v1/predictions", {"version": "{version_id}", "input": {"prompt": "x"}}),
    ("replicate/v1/predictions", {"model": "atelier/secret", "input": {"prompt": "x"}}),
    ("openai/v1/images/generations", {"model": "atelier/secret", "prompt": "x"}),
    ("openai/v1/images/edits", {"model": "atelier/painter", "prompt": "x", "image": "{file_id}"}),
    ("openai/v1/videos", {"model": "atelier/secret", "prompt": "x"}),
    ("fal/run/atelier/painter", {"prompt": "x", "image": "{file_id}"}),
    ("fal/queue/atelier/painter", {"prompt": "x", "image": "{file_id}"}),
]
"""Bodies that name what is somebody else's, on routes without a parameter of theirs."""


@pytest.fixture
def theirs(market, settings):
    """What Alice and Bob have, behind every route."""
    settings.HEAVY_PER_SECOND, settings.HEAVY_BURST = 1000.0, 100_000
    listed_version(
        market.vendor, market.licence, market.sam, name="painter",
        input_schema={
            **SCHEMA,
            "properties": {**SCHEMA["properties"], "image": PICTURE},
        },
    )  # fmt: skip
    made = belongings_of(market)
    made.ids["request_id"] = made.ids["job_id"]
    return made


@pytest.fixture(autouse=True)
def own_store(settings, tmp_path):
    """A store of this test's own: the suite's other process keeps its files in the usual one."""
    settings.MEDIA_DIR = tmp_path


def objects():
    root = storage().root
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def values_of(route, ids, nth):
    """Return a value for each parameter of a route: somebody else's."""
    values = {}
    for name in route.parameters:
        if name in ids:
            values[name] = ids[name][nth % len(ids[name])]
        elif name in PARAMETERS:
            values[name] = PARAMETERS[name]
        else:
            pytest.fail(f"{route.text}: say in PARAMETERS what somebody else's {name} is")
    for name, others in BY_DOOR.items():
        values |= {key: value for key, value in others.items() if name in values and key in values}
    return values


def strange(values, ids):
    """Return the same values with ids that nobody has."""
    return {
        name: str(uuid.uuid4()) if name in ids else "none" if name in ("name", "alias") else value
        for name, value in values.items()
    }


def png():
    made = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(made, "PNG")
    return made.getvalue()


@pytest.fixture
def ask(market):
    """Send a request with Charlie's key."""
    headers = {"Authorization": f"Bearer {market.stranger_secret}"}
    with httpx.Client(base_url=market.url, headers=headers, timeout=30) as client:
        body = {"model": "atelier/secret", "prompt": "x", "input": {"prompt": "x"}}

        def send(method, path, form=False, own=None):
            if method in ("GET", "HEAD", "DELETE"):
                return client.request(method, path)
            if form:
                fields = {"model": "atelier/secret", "prompt": "x"}
                return client.request(method, path, data=fields, files={"image": png()})
            return client.request(method, path, json=own or body)

        yield send, client


def check(before, objects_before, market):
    """Nothing that stood before has changed, and what is new is Charlie's."""
    after = rows()
    own = str(market.stranger.pk)
    changed = {
        key for key, text in before.items()
        if after.get(key) != text and own not in text and key[0] != "accounts.ApiKey"
    }  # fmt: skip
    assert not changed, [(key, before[key], after.get(key)) for key in changed]
    for key in before.keys() & after.keys():
        if key[0] == "accounts.ApiKey" and before[key] != after[key]:
            assert own in before[key], "the key of another organisation"
    others = {str(market.developer.pk), str(market.vendor.pk)}
    for key in after.keys() - before.keys():
        if key[0] != "catalog.LicenceAcceptance":
            assert not any(other in after[key] for other in others), (key, after[key])
    kept = objects()
    assert {name: kept.get(name) for name in objects_before} == objects_before
    new = kept.keys() - objects_before.keys()
    assert not [name for name in new if own not in name]


def test_routes_are_found():
    texts = [route.text for route in all_routes()]
    assert len(texts) > 60
    assert {"v1/jobs/<str:job_id>", "replicate/v1/predictions/<str:job_id>/cancel"} <= set(texts)


@pytest.mark.timeout(300)
def test_every_route_with_somebody_elses_ids(market, theirs, ask):
    send, _ = ask
    before, kept, closed, odd = rows(), objects(), 0, []
    for route in all_routes():
        if not set(route.parameters) - {"slug", "number", "form", "sub"}:
            continue
        for nth in range(2 if {"job_id", "request_id"} & set(route.parameters) else 1):
            values = values_of(route, theirs.ids, nth + 1)
            for method, form in [*((m, False) for m in METHODS), ("POST", True)]:
                own = BODIES.get(route.text)
                answer = send(method, route.path(values), form, own)
                told = (method, route.text, answer.status_code, answer.text[:500])
                if answer.status_code in ARGUED.get((method, route.text), set()):
                    continue
                nobodys = send(method, route.path(strange(values, theirs.ids)), form, own)
                assert answer.status_code == nobodys.status_code, (told, nobodys.status_code)
                # A body of a type that the route does not take is refused unread.
                if answer.status_code not in ((404, 405, 415) if form else (404, 405)):
                    odd.append(told)
                closed += answer.status_code == 404
    assert not odd, odd
    assert closed > 60
    check(before, kept, market)


def test_what_has_no_id_tells_of_ones_own_only(market, theirs, ask):
    send, _ = ask
    before, kept = rows(), objects()
    public = {market.licence.pk}
    private = [
        one for name, ids in theirs.ids.items() for one in ids if one not in map(str, public)
    ]
    for route in all_routes():
        if route.parameters:
            continue
        answer = send("GET", "/" + route.text)
        assert answer.status_code < 500, (route.text, answer.text)
        assert not [one for one in private if one in answer.text], route.text
        assert "atelier/secret" not in answer.text, route.text
    check(before, kept, market)


@pytest.mark.parametrize("nth", range(len(NAMING)))
def test_bodies_that_name_somebody_elses_things(market, theirs, ask, nth):
    path, body = NAMING[nth]
    if not any(("/" + path).startswith("/" + route.text.split("<")[0]) for route in all_routes()):
        pytest.fail(f"{path}: there is no such route any more")
    before, kept = rows(), objects()

    def filled(value):
        if isinstance(value, dict):
            return {name: filled(each) for name, each in value.items()}
        if isinstance(value, str) and value.startswith("{"):
            return theirs.ids[value[1:-1]][0]
        return value

    _, client = ask
    answer = client.post("/" + path, json=filled(body))
    assert answer.status_code in (404, 422), answer.text
    check(before, kept, market)
    assert not services.Job.objects.for_org(market.stranger).exists()
