"""The cast of the tests: a vendor with a listed model, a developer with money, an outsider."""

import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from allauth.account.internal.flows.login import (
    _AUTHENTICATION_METHODS_USER_SESSION_KEY,
    AUTHENTICATION_METHODS_SESSION_KEY,
)
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

from billing import services as billing
from inference import protocol
from marketplace.accounts import services as accounts
from marketplace.accounts.models import ApiKey, Organisation, User
from marketplace.catalog import services as catalog
from marketplace.catalog.models import Licence, Status, Version, Visibility
from marketplace.core.money import to_nano
from marketplace.core.storage import LocalStorage, storage
from marketplace.jobs import dispatch
from marketplace.jobs.models import Job

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 200},
        "num_images": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
        "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 50, "default": 4},
        "width": {"type": "integer", "minimum": 64, "maximum": 1024, "default": 128},
        "height": {"type": "integer", "minimum": 64, "maximum": 1024, "default": 128},
        "seed": {"type": "integer", "minimum": 0},
    },
}
OUTPUT_FORMAT = {"type": "string", "enum": ["png", "jpeg", "webp"], "default": "png"}
SCHEMA_WITH_FORMAT = {
    **SCHEMA,
    "properties": {**SCHEMA["properties"], "output_format": OUTPUT_FORMAT},
}
PIXEL = b"\x89PNG\r\n\x1a\n" + b"not a real picture, but stored and measured like one"


@dataclass
class Cast:
    """Alice sells, Bob buys, Charlie is a stranger, Sam is staff."""

    alice: User
    bob: User
    charlie: User
    sam: User
    vendor: Organisation
    developer: Organisation
    stranger: Organisation
    licence: Licence
    version: Version
    key: ApiKey
    secret: str
    stranger_secret: str

    @property
    def ref(self) -> str:
        return self.version.model.ref


def person(name: str, **extra: Any) -> User:
    return User.objects.create_user(f"{name}@example.org", "correct horse battery", **extra)


def staff_sign_in(client: Any, user: User) -> None:
    """Sign a member of staff in as they do: with a password and a second factor."""
    if not Authenticator.objects.filter(user=user).exists():
        TOTP.activate(user, generate_totp_secret())
    client.force_login(user)
    session = client.session
    shown = {"method": "mfa", "type": "totp", "at": time.time(), "reauthenticated": True}
    session[AUTHENTICATION_METHODS_SESSION_KEY] = [shown]
    session[_AUTHENTICATION_METHODS_USER_SESSION_KEY] = str(user.pk)
    session.save()


def listed_version(
    org: Organisation,
    licence: Licence,
    staff: User,
    *,
    name: str = "sketch",
    price: str = "0.004",
    unit: str = "image",
    minimum: str = "0",
    base: Version | None = None,
    visibility: str = Visibility.PUBLIC,
    task: str = "text-to-image",
    **parts: Any,
) -> Version:
    model = catalog.model_create(
        org=org, name=name, title=name.title(), task=task, visibility=visibility
    )
    version = catalog.version_create(
        model=model,
        licence=licence,
        base=base,
        **{
            "weights_uri": "starter:starter-image",
            "weights_digest": "sha256:" + "0" * 64,
            "family": "flux",
            "input_schema": SCHEMA,
            **parts,
        },
    )
    catalog.price_set(
        version=version, unit=unit, unit_price=Decimal(price), minimum=Decimal(minimum)
    )
    catalog.version_submit(version=version)
    version.refresh_from_db()
    return catalog.version_decide(version=version, after=Status.LISTED, by=staff)


def open_licence(org: Organisation, *, share: int = 8000, royalty: int = 1000) -> Licence:
    return catalog.licence_create(
        org=org,
        slug="open",
        title="Open",
        kind="open",
        text="Do as you like.",
        revenue_share_bps=share,
        royalty_bps=royalty,
    )


def make_cast(*, prepaid: str = "1") -> Cast:
    alice, bob, charlie = person("alice"), person("bob"), person("charlie")
    sam = person("sam", is_staff=True, is_superuser=True)
    vendor = accounts.organisation_create(name="Alice's Atelier", owner=alice, slug="atelier")
    developer = accounts.organisation_create(name="Bob's Builders", owner=bob, slug="builders")
    stranger = accounts.organisation_create(name="Charlie", owner=charlie, slug="charlie")
    if Decimal(prepaid):
        billing.credit_top_up(
            org_id=developer.pk, amount_nano=to_nano(prepaid), source=f"test:{developer.pk}"
        )
    licence = open_licence(vendor)
    version = listed_version(vendor, licence, sam)
    key, secret = accounts.api_key_create(
        org=developer, name="test", scopes=["run", "read", "admin", "billing"], created_by=bob
    )
    _, stranger_secret = accounts.api_key_create(
        org=stranger, name="test", scopes=["run", "read", "admin", "billing"], created_by=charlie
    )
    return Cast(
        alice, bob, charlie, sam, vendor, developer, stranger,
        licence, version, key, secret, stranger_secret,
    )  # fmt: skip


def report_started(job: Job, worker: str = "w1") -> protocol.JobStarted:
    return protocol.JobStarted(
        job_id=str(job.pk),
        attempt=job.attempt,
        token=dispatch.attempt_token(job.pk, job.attempt),
        trace_id=job.trace_id,
        worker_id=worker,
        at=job.created_at.timestamp(),
    )


def report_finished(
    job: Job,
    *,
    count: int = 1,
    engine_ms: int = 1200,
    steps: int = 4,
    side: int = 128,
    seconds: float | None = None,
) -> protocol.JobFinished:
    """Store `count` outputs where the job's worker was told to, and report them."""
    store = storage()
    assert isinstance(store, LocalStorage)
    outputs = []
    for index in range(count):
        key = dispatch.output_key(job, index)
        size, digest = store.write(key, [PIXEL], 10_000)
        outputs.append(
            protocol.Output(
                index=index,
                key=key,
                content_type=dispatch.output_type(job),
                size=size,
                sha256=digest,
                width=side,
                height=side,
                seconds=seconds,
            )
        )
    return protocol.JobFinished(
        job_id=str(job.pk),
        attempt=job.attempt,
        token=dispatch.attempt_token(job.pk, job.attempt),
        trace_id=job.trace_id,
        worker_id="w1",
        outputs=outputs,
        usage=protocol.Usage(
            images=count, steps=steps, engine_ms=engine_ms, output_seconds=(seconds or 0) * count
        ),
        result={"seed": 7},
        at=job.created_at.timestamp(),
    )


def report_failed(job: Job, code: str, *, retryable: bool = False) -> protocol.JobFailed:
    return protocol.JobFailed(
        job_id=str(job.pk),
        attempt=job.attempt,
        token=dispatch.attempt_token(job.pk, job.attempt),
        trace_id=job.trace_id,
        worker_id="w1",
        code=code,
        message="",
        retryable=retryable,
        at=job.created_at.timestamp(),
    )


def fresh_id() -> uuid.UUID:
    return uuid.uuid4()
