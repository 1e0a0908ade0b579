"""Which addresses of weights a vendor may register, and that workers read the same ones."""

import pytest

from inference.engine.errors import WeightsUnavailableError
from inference.engine.weights import addresses
from marketplace.catalog import weights
from marketplace.core.errors import InvalidInput
from tests.marketplace.catalog.test_listing_a_model import draft

GOOD = [
    "starter:starter-image",
    "starter:new_one",
    "file:///weights/flux",
    "s3://weights/flux",
    "s3://weights/a/b_c/v1.2/",
    "hub://acme/tiny",
    "hub://acme/tiny@v1",
    "hub://acme/tiny@refs/pr/1",
]
BAD = [
    "",
    "flux",
    "../../etc/passwd",
    "starter:../x",
    "starter:",
    "file://host/weights",
    "file:///weights/../etc",
    "s3://weights",
    "s3:weights/flux",
    "s3://weights/../secret",
    "s3://key:secret@weights/flux",
    "s3://weights/flux?versionId=1",
    "S3://weights/flux",
    "hub:acme/tiny",
    "hub://acme",
    "hub://acme/tiny/deep",
    "hub://acme/tiny@",
    "hub://acme/tiny@../x",
    "hub://token@acme/tiny",
    "hf://acme/tiny",
    "https://huggingface.co/acme/tiny",
    "noop:x",
]


@pytest.fixture(autouse=True)
def buckets(settings):
    settings.WEIGHTS_S3_BUCKETS = ["weights"]


@pytest.mark.parametrize("uri", GOOD)
def test_what_a_vendor_may_write_workers_can_read(cast, uri):
    weights.check_uri(cast.vendor, uri)
    addresses.parse(uri)


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/cwd/weights", "/proc", "/sys/x", "/dev/shm/x", "//proc/x", "/a//b",
        "/a/./b", "/.", "/",
    ],
)  # fmt: skip
def test_a_file_has_no_second_name(cast, path):
    with pytest.raises(InvalidInput, match="no detours"):
        weights.check_uri(cast.vendor, f"file://{path}")


@pytest.mark.parametrize("uri", BAD)
def test_what_is_no_address_is_refused_by_field(cast, uri):
    with pytest.raises(InvalidInput) as refusal:
        draft(cast, weights_uri=uri)
    (told,) = refusal.value.fields["weights_uri"]
    assert any(form in told for form in ("s3://BUCKET/PREFIX", "hub://OWNER/NAME"))


@pytest.mark.parametrize("uri", [uri for uri in BAD if uri != "file:///weights/../etc"])
def test_workers_refuse_what_the_market_refuses(uri):
    with pytest.raises(WeightsUnavailableError):
        addresses.parse(uri)


def test_no_bucket_is_read_unless_the_operator_names_it(cast, settings):
    settings.WEIGHTS_S3_BUCKETS = []
    with pytest.raises(InvalidInput, match="no S3 bucket") as refusal:
        draft(cast, weights_uri="s3://weights/flux")
    assert list(refusal.value.fields) == ["weights_uri"]


@pytest.mark.parametrize(
    ("uri", "is_allowed"),
    [
        ("s3://weights/atelier/flux", True),
        ("s3://weights/atelier", True),
        ("s3://weights/charlie/flux", False),
        ("s3://weights/atelier-2/flux", False),
        ("s3://weights/flux", False),
        ("s3://shared/open/flux", True),
        ("s3://shared/opened/flux", False),
        ("s3://other/atelier/flux", False),
    ],
)
def test_a_vendor_may_have_a_folder_of_its_own(cast, settings, uri, is_allowed):
    settings.WEIGHTS_S3_BUCKETS = ["weights/{org}", "shared/open/"]
    if is_allowed:
        assert draft(cast, weights_uri=uri).weights_uri == uri
    else:
        with pytest.raises(InvalidInput, match=r"s3://weights/atelier/…, s3://shared/open/…"):
            draft(cast, weights_uri=uri)


def test_the_hub_may_be_bounded_to_owners(cast, settings):
    settings.WEIGHTS_HUB_OWNERS = ["acme"]
    draft(cast, weights_uri="hub://acme/tiny")
    with pytest.raises(InvalidInput, match="repositories of acme only"):
        draft(cast, weights_uri="hub://acme2/tiny")


@pytest.mark.parametrize("digest", ["", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "a" * 64])
def test_weights_elsewhere_need_a_digest(cast, digest):
    with pytest.raises(InvalidInput) as refusal:
        draft(cast, weights_uri="hub://acme/tiny", weights_digest=digest)
    assert "weights fetch" in refusal.value.fields["weights_digest"][0]
