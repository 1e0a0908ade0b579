"""A manifest that anyone may have written is read strictly, and each fault is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.errors import WeightsUnavailableError
from inference.engine.weights import Model, WeightsStore
from inference.engine.weights.manifest import (
    CHUNK_BYTES,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    Manifest,
)
from tests.inference.engine.weights.conftest import Bucket

HEX = "a" * 64


def _file(**changes: Any) -> dict[str, Any]:
    return {"path": "vae/config.json", "size": 5, "sha256": HEX, "chunks": [HEX], **changes}


def _body(*files: Any, **changes: Any) -> bytes:
    data = {"digest": "ignored", "chunk_bytes": CHUNK_BYTES, "files": list(files), **changes}
    return json.dumps(data).encode()


def test_a_plain_one_is_read_and_written_back_alike() -> None:
    manifest = Manifest.from_json(_body(_file(), _file(path="a.txt", size=0, chunks=[])))
    assert [file.path for file in manifest.files] == ["a.txt", "vae/config.json"]
    assert Manifest.from_json(manifest.to_json()) == manifest


PATHS = [
    "../x.json",
    "/etc/x.json",
    "a/../../x.json",
    "a//x.json",
    "./x.json",
    ".hidden.json",
    "a\\x.json",
    "C:x.json",
    "a\nb.json",
    "x.json\0",
    "é.json",
    "",
    "a" * 500 + ".json",
    "a/b/c/d/e/f/g/h/x.json",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_could_leave_its_folder_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path is not plain"):
        Manifest.from_json(_body(_file(path=path)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"path": 5}, "path is not plain"),
        ({"path": "unet/weights.bin"}, "no file that models consist of"),
        ({"path": "pipeline.py"}, "no file that models consist of"),
        ({"size": -1}, "impossible size"),
        ({"size": True}, "impossible size"),
        ({"size": 5.0}, "impossible size"),
        ({"size": float("inf")}, "impossible size"),
        ({"size": MAX_FILE_BYTES + 1}, "impossible size"),
        ({"size": 10**400}, "impossible size"),
        ({"sha256": HEX.upper()}, "no sha256"),
        ({"sha256": HEX[:-1]}, "no sha256"),
        ({"sha256": f"../{HEX[3:]}"}, "no sha256"),
        ({"sha256": None}, "no sha256"),
        ({"chunks": []}, "another number of chunks"),
        ({"chunks": [HEX, HEX]}, "another number of chunks"),
        ({"chunks": HEX}, "another number of chunks"),
        ({"chunks": ["b"]}, "chunk without a sha256"),
        ({"chunks": [None]}, "chunk without a sha256"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Manifest.from_json(_body(_file(**changes)))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[" * 10**6, "nested too deep"),
        (b"[]", "bytes a chunk"),
        (b"null", "bytes a chunk"),
        (_body(_file(), chunk_bytes=1), "bytes a chunk"),
        (_body(), "lists no files"),
        (_body(files={}), "lists no files"),
        (_body("x"), "lacks a field"),
        (_body({"path": "a.json"}), "lacks a field"),
        (_body(_file(), _file()), "listed twice"),
        (_body(_file(path="a.json"), _file(path="a.json/b.json")), "listed as a file"),
        (_body(*[_file(path=f"{n}.json") for n in range(MAX_FILES + 1)]), "too many"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "too long"),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Manifest.from_json(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_NEAR = st.fixed_dictionaries(
    {
        "path": st.sampled_from(["a.json", "b/c.txt", *PATHS]) | _JSON,
        "size": st.integers(0, 20) | _JSON,
        "sha256": st.just(HEX) | _JSON,
        "chunks": st.just([HEX]) | _JSON,
    }
)


@given(st.binary() | st.lists(_NEAR | _JSON, max_size=3).map(lambda files: _body(*files)))
def test_whatever_is_given_is_read_whole_or_is_a_value_error(body: bytes) -> None:
    try:
        manifest = Manifest.from_json(body)
    except ValueError:
        return
    assert all(file.path in ("a.json", "b/c.txt") for file in manifest.files)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (_body(_file(path="../../x.json")), "path is not plain"),
        (_body(_file()), "lists other files than are there"),
        (b"{", "Expecting"),
    ],
)
def test_a_hostile_manifest_in_s3_ends_the_load_before_a_file_is_read(
    bucket: Bucket, make_store: Callable[..., WeightsStore], body: bytes, says: str
) -> None:
    for name, content in (("weights.manifest", body), ("model_index.json", b"{}")):
        bucket.client.put_object(Bucket=bucket.name, Key=f"hostile/{name}", Body=content)
    store = make_store(**bucket.settings)
    with pytest.raises(WeightsUnavailableError, match=f"weights.manifest: .*{says}|{says}"):
        store.open(Model(uri="s3://weights/hostile", digest=f"sha256:{HEX}", family="flux"))
    assert store.cache.used() == 0
