"""Weights in S3 are read in ranges, checked, and refused where they are not what they ought."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.engine.errors import WeightsMismatchError, WeightsUnavailableError
from inference.engine.weights import Model, WeightsStore, digest_of
from inference.engine.weights.manifest import describe
from tests.inference.engine.weights.conftest import WEIGHTS, Bucket

MakeStore = Callable[..., WeightsStore]


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "copy"))


def test_a_model_is_fetched_once_and_then_found_in_the_cache(
    bucket: Bucket, source: Path, digest: str, make_store: MakeStore
) -> None:
    model = Model(uri=bucket.upload(source, "a/flux"), digest=digest, family="flux")
    store = make_store(**bucket.settings)
    first = store.open_with_report(model)
    assert first.directory is not None
    assert digest_of(first.directory) == digest
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    (row,) = first.report.sources
    assert (row.source, row.bytes) == ("s3://weights", size)
    assert 0 < row.seconds <= first.report.seconds
    (again,) = store.open_with_report(model).report.sources
    assert (again.source, again.bytes) == ("cache", size)


def test_without_a_digest_the_digest_is_found(
    bucket: Bucket, source: Path, digest: str, make_store: MakeStore
) -> None:
    uri = bucket.upload(source, "plain")
    model = Model(uri=uri, digest=None, family="flux")
    store = make_store(**bucket.settings)
    assert store.open_with_report(model).digest == digest
    (row,) = store.open_with_report(model).report.sources
    assert row.source == "cache"


def test_another_digest_is_refused_and_nothing_is_kept(
    bucket: Bucket, source: Path, make_store: MakeStore
) -> None:
    model = Model(uri=bucket.upload(source, "b"), digest="sha256:" + "0" * 64, family="flux")
    store = make_store(**bucket.settings)
    with pytest.raises(WeightsMismatchError, match="have the digest sha256:"):
        store.open(model)
    assert store.cache.digests() == []


@pytest.mark.parametrize("name", ["vae/weights.bin", "x.ckpt", "pipeline.py"])
def test_a_pickle_or_code_is_refused_before_anything_is_fetched(
    bucket: Bucket, copy: Path, digest: str, make_store: MakeStore, name: str
) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(b"\x80\x04.")
    model = Model(uri=bucket.upload(copy, f"bad/{name}"), digest=digest, family="flux")
    store = make_store(**bucket.settings)
    with pytest.raises(WeightsMismatchError, match=r"is a pickle|is code"):
        store.open(model)
    assert store.cache.used() == 0


def test_a_manifest_beside_the_files_tells_a_wrong_digest_before_they_are_fetched(
    bucket: Bucket, copy: Path, make_store: MakeStore
) -> None:
    (copy / "weights.manifest").write_bytes(describe(copy).to_json())
    uri = bucket.upload(copy, "listed")
    store = make_store(**bucket.settings)
    with pytest.raises(WeightsMismatchError, match="have the digest"):
        store.open(Model(uri=uri, digest="sha256:" + "1" * 64, family="flux"))
    assert store.cache.used() == 0
    assert store.open(Model(uri=uri, digest=digest_of(copy), family="flux")) is not None


def test_a_manifest_that_promises_other_bytes_is_refused(
    bucket: Bucket, copy: Path, make_store: MakeStore
) -> None:
    promised = digest_of(copy)
    (copy / "weights.manifest").write_bytes(describe(copy).to_json())
    body = bytearray((copy / WEIGHTS).read_bytes())
    body[-1] ^= 1
    (copy / WEIGHTS).write_bytes(body)
    model = Model(uri=bucket.upload(copy, "changed"), digest=promised, family="flux")
    store = make_store(**bucket.settings)
    with pytest.raises(WeightsUnavailableError, match=r"chunk 2 of .* is another one"):
        store.open(model)
    assert store.cache.digests() == []


def test_a_bucket_that_the_operator_did_not_list_is_not_read(
    bucket: Bucket, source: Path, digest: str, make_store: MakeStore
) -> None:
    uri = bucket.upload(source, "team/a")
    model = Model(uri=uri, digest=digest, family="flux")
    for listed in ((), ("other",), ("weights/team/ab",)):
        store = make_store(**{**bucket.settings, "s3_buckets": listed})
        with pytest.raises(WeightsUnavailableError, match="WEIGHTS_S3_BUCKETS"):
            store.open(model)
    assert make_store(**{**bucket.settings, "s3_buckets": ("weights/team",)}).open(model)


def test_an_empty_prefix_or_absent_bucket_is_one_clear_error(
    bucket: Bucket, digest: str, make_store: MakeStore
) -> None:
    store = make_store(**{**bucket.settings, "s3_buckets": ("weights", "absent")})
    for uri, problem in (("s3://weights/none", "no weights there"), ("s3://absent/x", "NoSuch")):
        with pytest.raises(WeightsUnavailableError, match=problem) as raised:
            store.open(Model(uri=uri, digest=digest, family="flux"))
        assert "test-secret" not in str(raised.value)
