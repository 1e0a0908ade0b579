"""Decides which LoRAs a caller may name in an input, and tells the worker where they are.

A caller names a LoRA version of the catalogue or an upload of its own. Addresses of files are
refused: workers can read files that the caller may not.
"""

import uuid
from collections.abc import Sequence
from typing import Any

from django.db.models import Q

from inference import protocol
from marketplace.accounts.models import Organisation
from marketplace.catalog import acceptance, chains
from marketplace.catalog.models import LicenceKind, Version
from marketplace.core.errors import InvalidInput, NotAllowed
from marketplace.core.ids import parse_id
from marketplace.core.storage import storage
from marketplace.jobs import files
from marketplace.jobs.models import File, Job

FIELD = "loras"
_WRITE = "Write vendor/name:number of a LoRA version, or the id of a file that you uploaded."


def _refuse(where: str, why: str) -> InvalidInput:
    return InvalidInput(f"input.{where}: {why}", fields={f"input.{where}": [why]})


def _split(ref: str) -> tuple[str, str, str]:
    path, _, number = ref.partition(":")
    vendor, _, name = path.partition("/")
    return vendor, name, number


def _named(ref: str) -> Any:
    """Return the LoRA versions that `vendor/name` or `vendor/name:number` names, newest first."""
    vendor, name, number = _split(ref)
    rows = Version.objects.filter(lora=True, model__org__slug=vendor, model__name=name)
    if number:
        is_number = number.isascii() and number.isdecimal() and len(number) < 10
        rows = rows.filter(number=int(number)) if is_number else rows.none()
    return rows.select_related("model__org", "licence").order_by("-number")


def _version(org: Organisation, version: Version, ref: str, where: str) -> Version:
    """Return the LoRA version that `org` may put on `version`. Raises InvalidInput.

    Its own have to be listed too: staff have looked at where their files are.
    """
    runnable = Version.objects.runnable_by(org).values("pk")
    found: Version | None = _named(ref).filter(pk__in=runnable).first()
    if found is None:
        raise _refuse(where, f"There is no LoRA {ref[:120]} that you can use. {_WRITE}")
    if found.family != version.family:
        raise _refuse(where, f"It is for {found.family}, and this model is {version.family}.")
    is_free = found.licence.kind == LicenceKind.OPEN and not found.licence.royalty_bps
    if found.model.org_id != org.pk and not is_free:
        # Nothing of this call's charge would be its vendor's.
        why = f"Its licence asks to be paid: call {found.model.ref} itself."
        raise _refuse(where, why)
    lacking = acceptance.missing(org, chains.chain_of(found).licences)
    if lacking:
        raise _refuse(where, f"You have not accepted its licence {lacking[0]}.")
    if _royalties(found) - _royalties(version) - {version.model.org_id}:
        why = f"What it is made from asks to be paid: call {found.model.ref} itself."
        raise _refuse(where, why)
    return found


def usable(*, org: Organisation, version: Version, limit: int = 50) -> list[Version]:
    """Return LoRAs of the catalogue that `org` may put on `version`, by name, newest first.

    Those made for the same weights. What they were made from may still ask to be paid: that is
    checked when a job names one.
    """
    runs = version.base if version.lora and version.base else version
    free = Q(licence__kind=LicenceKind.OPEN, licence__royalty_bps=0) | Q(model__org=org)
    rows = (
        Version.objects.runnable_by(org)
        .filter(free, lora=True, family=runs.family, base__weights_digest=runs.weights_digest)
        .exclude(pk=version.pk)
        .select_related("model__org")
        .order_by("model__org__slug", "model__name", "-number")
    )
    return list(rows[:limit])


def _royalties(version: Version) -> set[uuid.UUID]:
    """Return who has a royalty on the charges of what is made from the same as `version`."""
    chain = chains.chain_of(version).ancestors
    return {row.model.org_id for row in chain if row.licence.royalty_bps}


def _upload(org: Organisation, file_id: str, where: str) -> str:
    """Return the id of an upload of `org` that has arrived. Raises InvalidInput."""
    file = File.objects.for_org(org).filter(deleted_at__isnull=True, pk=parse_id(file_id)).first()
    why = "There is no such file." if file is None else files.problem(file)
    if why:
        raise _refuse(where, f"{why} {_WRITE}")
    assert file is not None
    return str(file.pk)


def _entry(
    org: Organisation, version: Version, given: Any, where: str, allowed: Sequence[str]
) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("uri"), str):
        raise _refuse(where, 'It must be an object such as {"uri": "vendor/name:1", "scale": 1}.')
    if unknown := sorted(set(given) - {"uri", "scale"}):
        raise _refuse(f"{where}.{unknown[0][:40]}", "A LoRA has uri and scale.")
    scale, most = given.get("scale", 1.0), protocol.MAX_LORA_SCALE
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    # Compared as it is: an integer may be too long to become a float, and NaN is within nothing.
    if not is_number or not -most <= scale <= most:
        raise _refuse(f"{where}.scale", f"It must be a number between {-most:g} and {most:g}.")
    uri = given["uri"]
    if parse_id(uri).int:
        return {"uri": _upload(org, uri, f"{where}.uri"), "scale": scale}
    vendor, name, _ = _split(uri)
    if not vendor or not name or "/" in name:
        raise _refuse(f"{where}.uri", _WRITE)
    if allowed and f"{vendor}/{name}" not in allowed:
        raise NotAllowed(f"This key may not run {uri[:120]}.", code="model_not_allowed")
    return {"uri": str(_version(org, version, uri, f"{where}.uri")), "scale": scale}


def pin(
    *, org: Organisation, version: Version, values: dict[str, Any], allowed: Sequence[str] = ()
) -> dict[str, Any]:
    """Return `values` with each LoRA named exactly. Raises InvalidInput naming the field.

    Raises NotAllowed for a model that is not among `allowed`, the key's; none named means all.
    """
    given = values.get(FIELD)
    if given is None:
        return values
    most = protocol.MAX_LORAS - int(version.lora)
    if not isinstance(given, list) or len(given) > most:
        raise _refuse(FIELD, f"It must be a list of at most {most}.")
    entries = [_entry(org, version, e, f"{FIELD}.{n}", allowed) for n, e in enumerate(given)]
    return {**values, FIELD: entries}


def for_worker(job: Job, ttl_s: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the LoRAs of a job as the engine reads them, and URLs of those that were uploaded.

    The LoRA that is the job's version itself comes first.
    """
    version = job.version
    found = [_at(version, 1.0)] if version.lora else []
    urls = {}
    for entry in job.input.get(FIELD) or []:
        if not parse_id(entry["uri"]).int:
            found.append(_at(_named(entry["uri"]).get(), entry["scale"]))
            continue
        file = File.objects.get(org_id=job.org_id, pk=parse_id(entry["uri"]))
        urls[protocol.lora_field(len(found))] = storage().signed_get(
            file.key, file.content_type, ttl_s
        )
        found.append({"uri": f"{protocol.UPLOADED}{file.pk}", "scale": entry["scale"]})
    return found, urls


def _at(version: Version, scale: float) -> dict[str, Any]:
    return {"uri": version.weights_uri, "digest": version.weights_digest, "scale": scale}
