"""Says where a version's weights may be, and whose they are.

A worker that holds weights opens them by digest alone, and digests are public: so a digest belongs
to the vendor whose version was listed first, and others name that version as their base. A draft
takes no digest, for nobody has reviewed it; its test runs are bound by `check_trial`.
"""

import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from django.conf import settings
from django.db import connection

from inference.protocol import FAMILIES
from marketplace.accounts.models import Organisation
from marketplace.catalog import chains
from marketplace.catalog.listing_models import UploadState, WeightsUpload
from marketplace.catalog.models import Version
from marketplace.catalog.shipped import shipped
from marketplace.core.errors import InvalidInput

FORMS = "starter:NAME, file:///DIRECTORY, s3://BUCKET/PREFIX, hub://OWNER/NAME@REVISION"
# The same forms as workers read; a test holds the two against each other.
_STARTER = re.compile(r"starter:[a-z0-9][a-z0-9_-]{0,59}")
_FILE = re.compile(r"file:///(?!.*\.\.)[\w./@+-]{1,400}", re.ASCII)
_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([\w.+=-]+(?:/[\w.+=-]+)*)/?", re.ASCII)
_HUB = re.compile(
    r"hub://([A-Za-z0-9][\w.-]{0,95})/[A-Za-z0-9][\w.-]{0,95}(?:@[\w.-]+(?:/[\w.-]+)*)?", re.ASCII
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _refuse(field: str, why: str) -> InvalidInput:
    return InvalidInput(f"{field}: {why}", fields={field: [why]})


def _climbs(path: str) -> bool:
    return any(part in (".", "..") for part in path.split("/"))


def _check_s3(org: Organisation, uri: str) -> None:
    found = _S3.fullmatch(uri)
    if not found or _climbs(found[2]):
        raise _refuse("weights_uri", "Write it as s3://BUCKET/PREFIX, without credentials.")
    allowed = [entry.replace("{org}", org.slug) for entry in settings.WEIGHTS_S3_BUCKETS]
    if any(f"{found[1]}/{found[2]}/".startswith(f"{entry.strip('/')}/") for entry in allowed):
        return
    if not allowed:
        raise _refuse("weights_uri", "This market reads weights from no S3 bucket.")
    places = ", ".join(f"s3://{entry.strip('/')}/…" for entry in allowed)
    raise _refuse("weights_uri", f"Of S3, this market reads your weights from {places} only.")


def _check_hub(uri: str) -> None:
    found = _HUB.fullmatch(uri)
    if not found or _climbs(uri.partition("@")[2]):
        raise _refuse("weights_uri", "Write it as hub://OWNER/NAME or hub://OWNER/NAME@REVISION.")
    owners = settings.WEIGHTS_HUB_OWNERS
    if owners and found[1] not in owners:
        known = ", ".join(owners)
        raise _refuse("weights_uri", f"Of the hub, this market reads repositories of {known} only.")


def uploads_root() -> str:
    """Return how the addresses of uploaded weights begin."""
    if settings.S3_BUCKET:
        return f"s3://{settings.S3_BUCKET}/weights/"
    return f"file://{Path(settings.MEDIA_DIR).absolute()}/weights/"


def _is_upload(org: Organisation, uri: str) -> bool:
    """Tell whether `uri` is an upload of `org`. Raises InvalidInput for one of somebody else."""
    scheme, _, rest = uri.partition("://")
    plain = f"{scheme}://{posixpath.normpath('/' + rest.strip('/')).lstrip('/')}"
    root = uploads_root().replace(":///", "://")
    if not f"{plain}/".startswith(root):
        return False
    folder = plain.removeprefix(root).split("/")
    ready = WeightsUpload.objects.for_org(org).filter(state=UploadState.READY)
    if folder[0] == str(org.pk) and any(str(row.pk) in folder[1:2] for row in ready):
        return True
    raise _refuse("weights_uri", "There is no such upload of yours.")


def _check_file(uri: str) -> None:
    """Refuse names by which the kernel shows the same file elsewhere: they pass rules by path."""
    path = uri.removeprefix("file://").removesuffix("/")
    is_plain = _FILE.fullmatch(uri) and path and posixpath.normpath(path) == path
    if not is_plain or path.startswith("//") or path.split("/")[1] in ("proc", "sys", "dev"):
        raise _refuse("weights_uri", f"Begin with one of {FORMS}; the path has no detours.")


def check_uri(org: Organisation, uri: str, *, lora: bool = False) -> None:
    """Raise InvalidInput unless workers may load from `uri` on behalf of `org`."""
    scheme = uri.partition(":")[0]
    if scheme in ("s3", "file") and _is_upload(org, uri) and not (lora and scheme == "s3"):
        return
    if lora and scheme in ("s3", "hub"):
        raise _refuse("weights_uri", "A LoRA is at starter:NAME or file:///…, or is uploaded.")
    if scheme == "s3":
        _check_s3(org, uri)
    elif scheme == "hub":
        _check_hub(uri)
    elif scheme in ("hf", "http", "https"):
        raise _refuse(
            "weights_uri", f"Weights are not at web addresses. Begin with one of {FORMS}."
        )
    elif scheme == "file":
        _check_file(uri)
    elif uri != "noop:" and not _STARTER.fullmatch(uri):
        raise _refuse("weights_uri", f"Begin with one of {FORMS}.")


def check_family(family: str) -> None:
    """Raise InvalidInput unless the engine knows the family, and this market runs it."""
    if family not in FAMILIES or (family == "noop" and not settings.ALLOW_NOOP_FAMILY):
        known = ", ".join(name for name in FAMILIES if name != "noop")
        raise InvalidInput(
            "The engine does not know this family.", fields={"family": [f"One of {known}."]}
        )


def check_digest(digest: str) -> None:
    """Raise InvalidInput unless `digest` is one, saying how to find it out."""
    if not _DIGEST.fullmatch(digest):
        raise _refuse(
            "weights_digest",
            "Write sha256: and 64 hexadecimal digits; "
            "`python -m inference weights fetch URI` prints them.",
        )


def _is_everybodys(uri: str, digest: str) -> bool:
    """Tell whether this ships with Mercato and so belongs to nobody; a digest alone does not."""
    return uri == "noop:" or (
        uri.startswith("starter:") and shipped().get(uri, {}).get("digest") == digest
    )


def check_trial(org: Organisation, version: Version, ancestors: Sequence[Version]) -> None:
    """Raise InvalidInput unless an unreviewed version of `org` may run these weights.

    Uploads of its own, what ships, its own folders of S3 and the hub: no files of the workers. A
    digest that is somebody else's counts as theirs, unless they are among `ancestors`.
    """
    uri, digest = version.weights_uri, version.weights_digest
    check_uri(org, uri, lora=version.lora)
    if uri.startswith("file:") and not _is_upload(org, uri):
        raise _refuse("weights_uri", "A draft runs from an upload, not from files of the workers.")
    check_owner(org, uri, digest, ancestors)
    if any(row.weights_digest == digest for row in ancestors) or _is_everybodys(uri, digest):
        return
    ready = WeightsUpload.objects.filter(state=UploadState.READY, digest=digest)
    if ready.exists() and not ready.filter(org=org).exists():
        raise _refuse("weights_digest", "This is not the digest of weights of yours.")


def check_owner(org: Organisation, uri: str, digest: str, made_from: Iterable[Version]) -> None:
    """Raise InvalidInput where these weights were listed first for another organisation.

    Its version may be among `made_from`, or their ancestors: then its licence applies. Call it in
    the transaction that lists the version; two that list one digest wait for each other.
    """
    if uri == "noop:":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [digest])
    rows = Version.objects.filter(weights_digest=digest, listed_at__isnull=False).exclude(
        weights_uri__regex=r"^(starter|noop):"
    )
    first = rows.select_related("model").order_by("listed_at", "pk").first()
    if first is None or first.model.org_id == org.pk or _is_everybodys(uri, digest):
        return
    for parent in made_from:
        chain = [parent, *chains.ancestors(parent)]
        if any(v.weights_digest == digest and v.model.org_id == first.model.org_id for v in chain):
            return
    raise _refuse(
        "weights_digest",
        "These weights were listed for another vendor first. Name its version as the base of "
        "yours: then its licence applies, and its royalty is paid.",
    )
