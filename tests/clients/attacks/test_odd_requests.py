"""Odd requests are answered with a 4xx that says what is wrong, never with a fault of ours."""

import httpx
import pytest

from marketplace.jobs.models import Job


@pytest.fixture
def send(market):
    def send(method, path, **given):
        headers = {"Authorization": f"Key {market.secret}", **given.pop("headers", {})}
        url = f"{market.url}{path.format(ref=market.ref)}"
        return httpx.request(method, url, headers=headers, timeout=20, **given)

    return send


@pytest.mark.parametrize(
    "query",
    [
        {"prompt": "x", "width": "[" * 20_000},
        {"prompt": "x", "width": "1e999"},
        {"prompt": "x", "width": "NaN"},
        {"prompt": "x", "width": "9" * 4000},
        {"prompt": "x", "width": '"\\u0000"'},
        {"prompt": "x", "width": '"\\ud800"'},
        {"prompt": "x", "seed": "9" * 300},
        {"prompt": "x", "fal_webhook": "https://example.org/" + "x" * 2500},
    ],
)
def test_inputs_in_an_address(send, query):
    answer = send("GET", "/fal/run/{ref}", params=query)
    assert answer.status_code in (400, 422, 414, 431), answer.text
    assert Job.objects.count() == 0


@pytest.mark.parametrize("path", ["/fal/queue/{ref}", "/fal/run/{ref}/stream"])
def test_an_address_for_news_that_is_too_long(send, path):
    query = {"fal_webhook": "https://example.org/" + "x" * 2500}
    answer = send("POST", path, params=query, json={"prompt": "x"})
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/fal/queue/a\nb/c",
        "/fal/run/%F0%9F/c",
        "/fal/run/..%2f..%2fv1/x",
        "/fal/queue/{ref}/requests/../../x",
        "/fal/queue/{ref}/v99999999999",
        "/fal/queue/{ref}:1/v1",
    ],
)
def test_odd_addresses(send, path):
    answer = send("POST", path.replace("\n", "%0a"), json={"prompt": "x"})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize("name", ["a\nb", "\r\nSet-Cookie: x=1", " . "])
@pytest.mark.parametrize("content_type", ["a\nb", "ü☃", "text/html", "x\r\nSet-Cookie: x=1"])
def test_odd_names_of_files(send, market, name, content_type):
    asked = send(
        "POST",
        "/fal/rest/storage/upload/initiate",
        json={"file_name": name, "content_type": content_type},
    )
    assert asked.status_code in (200, 422), asked.text
    if asked.status_code == 200:
        put = httpx.put(asked.json()["upload_url"], content=b"<script>")
        assert put.status_code in (200, 422), put.text
        got = send(
            "GET",
            "/fal/cdn/files/" + asked.json()["file_url"].rpartition("/")[2],
            follow_redirects=True,
        )
        assert got.status_code == 200, got.text
        assert "set-cookie" not in got.headers
        assert "sandbox" in got.headers["Content-Security-Policy"]


def test_so_many_fields_of_a_form(send):
    many = {f"f{n}": (None, "x") for n in range(3000)}
    answer = send("POST", "/openai/v1/images/edits", files=many)
    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.json()["error"]["message"]


def test_so_many_files_of_a_form(send):
    many = [("image[]", (f"{n}", b"x")) for n in range(300)]
    answer = send("POST", "/openai/v1/images/edits", files=many)
    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.json()["error"]["message"]


def test_large_texts_in_a_form(send):
    answer = send("POST", "/openai/v1/images/edits", files={"prompt": (None, "x" * 6_000_000)})
    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "key", ["a" + "[b]" * 40, "a[", "[]", "a[][][]", "", "__proto__[x]", "a[b"]
)
def test_odd_names_in_a_form(send, key):
    answer = send(
        "POST", "/openai/v1/images/edits", files=[(key, (None, "1")), ("prompt", (None, "x"))]
    )
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"--x\r\n", b"", b'--x\r\nContent-Disposition: form-data; name="a"\r\n']
)
def test_broken_forms(send, body):
    answer = send(
        "POST",
        "/openai/v1/images/edits",
        content=body,
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["message"]


TARGETS = [
    "https://fal.run/../../v1/account",
    "https://fal.run/%2e%2e/%2e%2e/v1/account",
    "https://fal.run/..%2f..%2fv1/account",
    "https://fal.run//v1/account",
    "https://FAL.RUN/../admin/",
    "https://fal.run\\@evil/",
    "https://evil@fal.run/x/y",
    "https://fal.run:8443/x/y",
    "http://fal.run/x/y",
    "https://fal.run.evil.org/x/y",
    "https://fal.run%2fx",
    "//fal.run/x",
    "",
    "https://[::1/x",
    "https://fal.run/%00",
    "https://fal.run/x%0d%0aSet-Cookie:%20a=b/y",
    "https://fal.run/\udcff",
    "https://fal.run:x/y",
    "https://queue.fal.run/..;/v1/account",
    "https://fal.run/%252e%252e/v1/account",
]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_targets_of_the_proxy(send, method):
    for target in TARGETS:
        named = {"x-fal-target-url": target.encode("utf-8", "surrogateescape")}
        answer = send(method, "/api/fal/proxy", headers=named, content=b"{}")
        assert 400 <= answer.status_code < 500, (target, answer.text)
        assert "set-cookie" not in answer.headers
        assert answer.headers["content-type"] == "application/json" or b"NUL" in answer.content


@pytest.mark.parametrize(
    "value",
    [
        "[" * 5000,
        "{}",
        "1",
        '{"expiration_duration_seconds": 1e999}',
        '{"expiration_duration_seconds": ' + "9" * 5000 + "}",
    ],
)
def test_odd_lifecycles(send, value):
    answer = send(
        "POST",
        "/fal/queue/{ref}",
        json={"prompt": "x"},
        headers={"X-Fal-Object-Lifecycle-Preference": value},
    )
    assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e400", "0x1", "1_000", "١"])
def test_odd_start_timeouts(send, value):
    answer = send(
        "POST",
        "/fal/queue/{ref}",
        json={"prompt": "x"},
        headers={"X-Fal-Request-Timeout": value.encode()},
    )
    assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize("value", ["abc", "1-1-1", "9" * 100, "$", "0-0", "18446744073709551616"])
def test_odd_ids_of_events(send, value):
    made = send("POST", "/fal/queue/{ref}", json={"prompt": "x"}).json()
    send("PUT", "/fal/queue/{ref}/requests/" + made["request_id"] + "/cancel")
    answer = send(
        "GET",
        "/fal/queue/{ref}/requests/" + made["request_id"] + "/status/stream",
        headers={"Last-Event-ID": value},
    )
    assert answer.status_code == 200
    assert answer.text.startswith("data:")


@pytest.mark.parametrize(
    "apps", [["x" * 300], ["x"] * 51, "x", [{"a": 1}], [None], {"a": 1}, [["["]]]
)
def test_odd_tokens(send, apps):
    answer = send("POST", "/fal/rest/tokens/", json={"allowed_apps": apps, "token_expiration": 10})
    assert answer.status_code == 422, answer.text
