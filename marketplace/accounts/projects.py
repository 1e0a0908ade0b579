"""Everything that changes projects and budgets of an organisation."""

from typing import Any

from django.db import IntegrityError, transaction

from marketplace.accounts import audit
from marketplace.accounts.models import ApiKey, Organisation, Project
from marketplace.accounts.selectors import project_get
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotAllowed, WrongState
from marketplace.core.money import MAX_NANO

KEEP: Any = object()
"""Stands for a value that is not to be changed, where None is one that it can have."""


def _check(name: str, monthly_budget_nano: int | None) -> None:
    fields: dict[str, list[str]] = {}
    if not 1 <= len(name) <= 80:
        fields["name"] = ["Give a name of 1 to 80 characters."]
    if monthly_budget_nano is not None and not 0 <= monthly_budget_nano <= MAX_NANO:
        fields["monthly_budget_nano"] = ["It is out of range."]
    if fields:
        raise InvalidInput("The project cannot be like this.", fields=fields)


def _save(project: Project) -> Project:
    try:
        with transaction.atomic():
            project.save()
    except IntegrityError as error:
        raise InvalidInput(
            "Another project has this name.", fields={"name": ["It is taken."]}
        ) from error
    return project


@transaction.atomic
def project_create(
    *,
    org: Organisation,
    name: str,
    monthly_budget_nano: int | None = None,
    by: ApiKey | None = None,
) -> Project:
    """Create a project. Raises InvalidInput naming the fields."""
    _check_key(by)
    name = name.strip()
    _check(name, monthly_budget_nano)
    made = _save(Project(org=org, name=name, monthly_budget_nano=monthly_budget_nano))
    audit.record(
        org=org, action="project.create", target=made.name, budget_nano=monthly_budget_nano
    )
    return made


@transaction.atomic
def project_update(
    *,
    org: Organisation,
    project_id: object,
    name: str = KEEP,
    monthly_budget_nano: int | None = KEEP,
    by: ApiKey | None = None,
) -> Project:
    """Rename a project or change its budget. Raises NotFound, InvalidInput, WrongState."""
    _check_key(by)
    project = project_get(org=org, project_id=project_id)
    if project.archived_at is not None:
        raise WrongState("The project is archived.")
    if name is not KEEP:
        project.name = name.strip()
    if monthly_budget_nano is not KEEP:
        project.monthly_budget_nano = monthly_budget_nano
    _check(project.name, project.monthly_budget_nano)
    saved = _save(project)
    audit.record(
        org=org,
        action="project.update",
        target=saved.name,
        budget_nano=saved.monthly_budget_nano,
    )
    return saved


@transaction.atomic
def project_archive(*, org: Organisation, project_id: object, by: ApiKey | None = None) -> Project:
    """Put a project away for good and revoke its keys; again changes nothing."""
    _check_key(by)
    project = project_get(org=org, project_id=project_id)
    if project.archived_at is None:
        project.archived_at = now()
        project.save(update_fields=["archived_at"])
        audit.record(org=org, action="project.archive", target=project.name)
    ApiKey.objects.for_org(org).filter(project=project, revoked_at__isnull=True).update(
        revoked_at=project.archived_at
    )
    return project


@transaction.atomic
def organisation_budget_set(*, org: Organisation, monthly_budget_nano: int | None) -> None:
    """Set or (None) lift the monthly budget of everything an organisation runs."""
    _check("-", monthly_budget_nano)
    org.monthly_budget_nano = monthly_budget_nano
    org.save(update_fields=["monthly_budget_nano"])
    audit.record(org=org, action="organisation.budget", budget_nano=monthly_budget_nano)


def _check_key(key: ApiKey | None) -> None:
    """Refuse a key that could lift its own limits."""
    if key is not None and key.is_limited:
        raise NotAllowed(
            "A key with a project or a budget may not change projects.", code="key_is_limited"
        )
