"""What the playground shows: the form with its files and LoRAs, the price, runs, and code."""

import uuid
from typing import Any

from django.conf import settings
from django.http import HttpRequest, QueryDict
from django.utils.datastructures import MultiValueDict

from billing import selectors as billing
from marketplace.accounts.models import Organisation, Role
from marketplace.accounts.services import membership_require
from marketplace.catalog.models import Model, Price, Version
from marketplace.core import flags, limits
from marketplace.core.errors import MarketError
from marketplace.core.ids import parse_id
from marketplace.dashboard.access import show_error
from marketplace.dashboard.schema_controls import plain
from marketplace.dashboard.schema_form import PlaygroundForm, files_sent, initial_of, with_files
from marketplace.dashboard.snippets import snippets_of
from marketplace.jobs import files, live, loras
from marketplace.jobs import selectors as jobs
from marketplace.jobs.models import File, Job, JobStatus
from marketplace.jobs.services import quote_make

PREFIX = "in"
RUNS_SHOWN = 12
SEED = "seed"
_UPLOADS = ("image", "mask", "file", "loras")
_LORA_TYPE = "application/octet-stream"
_PROMPT = "a red circle"
_KIND_BYTES = 16
"""How much of a picture tells its kind."""
UPLOADS_PER_ORG = (1.0, 60)
"""Uploads a second, and burst: with the form or announced, they fill one bucket."""


# The form


def form_of(
    version: Version,
    org: Organisation | None,
    *,
    values: dict[str, Any] | None = None,
    data: QueryDict | None = None,
    prefix: str = PREFIX,
) -> PlaygroundForm:
    """Return the form of a version: with its defaults or `values`, or bound to `data`."""
    schema = version.input_schema
    form = PlaygroundForm(schema, data, prefix=prefix, initial=initial_of(schema, values))
    if org is not None:
        _show_files(form, org)
        for control in form.controls.values():
            if control.kind == "loras":
                control.choices = _choices(form, org, version)
    return form


def _show_files(form: PlaygroundForm, org: Organisation) -> None:
    """Give the fields that name an upload of `org` its name and address."""
    named = form.files_named()
    if not named:
        return
    ids = [parse_id(value) for value in named.values()]
    rows = File.objects.for_org(org).filter(pk__in=ids, deleted_at__isnull=True)
    found = {row.pk: row for row in rows}
    for name, value in named.items():
        if (file := found.get(parse_id(value))) is not None:
            form.controls[name].url = jobs.file_url(file, settings.FILE_URL_TTL_S) or ""
            form.controls[name].name = file.name


def _choices(form: PlaygroundForm, org: Organisation, version: Version) -> list[tuple[str, str]]:
    """Return the LoRAs to choose from, with those that are chosen already."""
    usable = loras.usable(org=org, version=version)
    choices = [(str(row), f"{row.model.title} ({row})") for row in usable]
    known = {value for value, _ in choices}
    chosen = form[loras.FIELD].value()
    for row in chosen if isinstance(chosen, list) else []:
        if isinstance(row, dict) and (uri := str(row.get("uri", ""))) not in known | {""}:
            label = "Your file " + uri[:8] if parse_id(uri).int else uri
            choices.append((uri, label))
    return choices


def file_context(form: PlaygroundForm) -> dict[str, Any]:
    """Return what playground/field.html reads beside its field."""
    return {
        "takes_files": any(c.kind in _UPLOADS for c in form.controls.values()),
        "takes_lora_files": _LORA_TYPE,
        "max_bytes": settings.FILE_MAX_BYTES,
    }


def show_input_error(form: PlaygroundForm, error: MarketError, version: Version) -> None:
    """Put what a job's check says of an input at its field; of a LoRA it names the place too."""
    error.fields = {".".join(name.split(".")[:2]): said for name, said in error.fields.items()}
    names = {f"input.{name}": name for name in version.input_schema.get("properties", {})}
    show_error(form, error, names)


def store_files(
    version: Version, org: Organisation, data: QueryDict, sent: MultiValueDict[str, Any]
) -> tuple[QueryDict, dict[str, str]]:
    """Keep the pictures that a browser without scripts sent with the form.

    Returns the form's content with their ids in, and by field what is wrong with the others.
    """
    form = PlaygroundForm(version.input_schema, prefix=PREFIX)
    sent_by_name = files_sent(form, sent, PREFIX)
    if not sent_by_name:
        return data, {}
    # Nothing is stored for a form that cannot be run: its files are checked before the rest.
    problems = {name: said for name, file in sent_by_name.items() if (said := _wrong(file))}
    trial = with_files(data, {name: str(uuid.uuid4()) for name in sent_by_name}, PREFIX)
    if not PlaygroundForm(version.input_schema, trial, prefix=PREFIX).is_valid():
        again = "It was not kept, for something else is wrong: choose it again."
        problems = {name: problems.get(name, again) for name in sent_by_name}
    if problems:
        return data, problems
    ids = {}
    for name, file in sent_by_name.items():
        try:
            ids[name] = str(_store(org, file).pk)
        except MarketError as error:
            problems[name] = error.message
    return with_files(data, ids, PREFIX), problems


def _wrong(file: Any) -> str:
    """Say why a file that was sent is no use, or nothing."""
    if file.size > settings.FILE_MAX_BYTES:
        return f"At most {settings.FILE_MAX_BYTES // 2**20} MB."
    start = file.read(_KIND_BYTES)
    file.seek(0)
    return "" if files.picture_type(start) else "It must be a PNG, JPEG or WebP picture."


def upload_count(org: Organisation) -> None:
    """Count an upload from the pages. Raises TooManyRequests."""
    limits.require("uploads", f"uploads:{org.pk}", *UPLOADS_PER_ORG)


def _store(org: Organisation, file: Any) -> File:
    upload_count(org)
    body = file.read()
    kind = files.picture_type(body) or _LORA_TYPE
    return files.upload_store(org=org, name=file.name[:200], content_type=kind, body=body)


# The price


def price_context(
    version: Version, price: Price | None, org: Organisation | None, form: PlaygroundForm
) -> dict[str, Any]:
    """Return what a valid form can cost at most, or its first problem; and the balance."""
    context: dict[str, Any] = {}
    if form.is_valid():
        try:
            made = quote_make(version=version, price=price, given=form.given(), org=org)[1]
            context["quote_nano"] = made.amount_nano
        except MarketError as error:
            context["problem"] = error.message
    else:
        field, problems = next(iter(form.errors.items()))
        label = form.fields[field].label if field in form.fields else ""
        context["problem"] = f"{label}: {problems[0]}" if label else str(problems[0])
    return context | money_context(org, context.get("quote_nano"))


def money_context(org: Organisation | None, quote_nano: int | None) -> dict[str, Any]:
    """Return the balance, and whether it is too low for a quote."""
    if org is None:
        return {}
    balance = billing.balance_of(org.pk)
    too_low = quote_nano is not None and quote_nano > balance.available_nano
    return {"balance": balance, "too_low": too_low}


# Runs


def live_context(request: HttpRequest, job: Job) -> dict[str, Any]:
    """Return where a job is and what it made; the worker is asked for previews while it runs."""
    seen = live.look(job, previews=flags.is_on(flags.PREVIEWS, request))
    outputs = [
        (file, url)
        for file in (job.outputs.all() if job.is_ended else [])
        if (url := jobs.file_url(file, settings.FILE_URL_TTL_S))
    ]
    position = jobs.queue_position(job) if seen.phase == live.QUEUED else None
    return {
        "job": job,
        "live": seen,
        "position": position,
        "outputs": outputs,
        "expired": job.status == JobStatus.SUCCEEDED and not outputs,
        "seen": _token(job, seen, position),
        "may_reseed": SEED in job.version.input_schema.get("properties", {}),
    }


def _token(job: Job, seen: live.Live, position: int | None) -> str:
    """Return what changes whenever a page that shows the job has to."""
    shown = seen.preview.step if seen.preview else 0
    stopping = int(job.cancel_requested_at is not None)
    parts = (job.status, job.attempt, seen.phase, seen.step, seen.bytes, shown, position, stopping)
    return "-".join(map(str, parts))


def runs_context(org: Organisation, user: Any, model: Model, before: str = "") -> dict[str, Any]:
    """Return a person's last runs of a model on its page, and the cursor of earlier ones."""
    rows = jobs.jobs_of(org).filter(user=user, api_key__isnull=True, version__model=model)
    if before:
        last = jobs.job_get(org=org, job_id=before)
        rows = rows.filter(created_at__lte=last.created_at).exclude(
            created_at=last.created_at, pk__gte=last.pk
        )
    found = list(rows[: RUNS_SHOWN + 1])
    shown = found[:RUNS_SHOWN]
    return {
        "model": model,
        "runs": [_run(job) for job in shown],
        "earlier": str(shown[-1].pk) if len(found) > RUNS_SHOWN else "",
    }


def _run(job: Job) -> dict[str, Any]:
    pictures = [file for file in job.outputs.all() if file.deleted_at is None]
    url = jobs.file_url(pictures[0], settings.FILE_URL_TTL_S) if pictures else None
    return {
        "job": job,
        "picture": url,
        "is_video": bool(pictures) and pictures[0].is_video,
        "prompt": str(job.input.get("prompt", ""))[:200],
        "seed": _seed_of(job),
    }


def _seed_of(job: Job) -> Any:
    """Return the seed that a job was drawn from, None where it is no input or not known."""
    if SEED not in job.version.input_schema.get("properties", {}):
        return None
    return job.input.get(SEED, job.result.get(SEED))


def values_again(job: Job, seed: str) -> dict[str, Any]:
    """Return an earlier job's input to fill the form with; `seed` is same, new or as it was."""
    values = dict(job.input)
    if seed == "new":
        values.pop(SEED, None)
    elif seed == "same" and _seed_of(job) is not None:
        values[SEED] = _seed_of(job)
    return values


# Code


def given_of(
    form: PlaygroundForm, version: Version, values: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the input as far as the form is filled in rightly; required texts have an example."""
    if form.is_bound:
        form.is_valid()
        given = form.given()
    else:
        properties = version.input_schema["properties"]
        shown = {name: plain(properties[name]).get("default") for name in form.fields} | {
            name: value for name, value in (values or {}).items() if name in form.fields
        }
        given = {name: value for name, value in shown.items() if value not in (None, "", [])}
    for name in version.input_schema.get("required", []):
        control = form.controls.get(name)
        if name not in given and control is not None and control.kind in ("long", "text"):
            given[name] = _PROMPT if name == "prompt" else "…"
    order = list(form.fields)
    return dict(sorted(given.items(), key=lambda item: order.index(item[0])))


# The whole panel


def panel_context(
    request: HttpRequest,
    model: Model,
    version: Version,
    *,
    form: PlaygroundForm | None = None,
    values: dict[str, Any] | None = None,
    job: Job | None = None,
) -> dict[str, Any]:
    """Return all that templates/playground/panel.html shows of a version."""
    org: Organisation | None = getattr(request, "org", None) or None
    form = form or form_of(version, org, values=values)
    context: dict[str, Any] = {
        "form": form,
        "nonce": uuid.uuid4().hex,
        "code": snippets_of(model.ref, given_of(form, version, values), model.task),
        **file_context(form),
    }
    if org is not None:
        context |= {"may_run": _may_run(request, org)} | runs_context(org, request.user, model)
    if job is not None:
        context |= live_context(request, job)
    return context


def _may_run(request: HttpRequest, org: Organisation) -> bool:
    try:
        membership_require(user=request.user, org=org, roles=[Role.DEVELOPER])  # type: ignore[arg-type]
    except MarketError:
        return False
    return True
