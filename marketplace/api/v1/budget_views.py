"""API v1: projects with their budgets, the balance and its grants."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import selectors as billing
from billing.models import SpendCap
from billing.services import month_of
from marketplace.accounts import projects
from marketplace.accounts.models import Project, Scope
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.pagination import paginate
from marketplace.api.v1 import budget_serializers as shapes
from marketplace.api.v1 import present, serializers
from marketplace.catalog.selectors import grant_scopes
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput


def _present(row: Project, spent: dict[Any, SpendCap]) -> dict[str, Any]:
    used = spent.get(row.pk)
    return {
        "id": row.pk,
        "name": row.name,
        "monthly_budget_nano_usd": row.monthly_budget_nano,
        "spent_nano_usd": used.spent_nano if used else 0,
        "held_nano_usd": used.held_nano if used else 0,
        "created_at": row.created_at,
        "archived_at": row.archived_at,
    }


def _one(row: Project) -> dict[str, Any]:
    return _present(row, billing.budgets_spent([row.pk], month_of(now())))


class ProjectList(APIView):
    """Projects of the organisation."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.ADMIN), "POST": (Scope.ADMIN,)}

    @extend_schema(operation_id="projects_list", responses=serializers.page_of(shapes.Project))
    def get(self, request: Request) -> Response:
        """List projects, newest first, archived ones too."""
        rows = Project.objects.for_org(caller_of(request).org).order_by("-created_at")
        spent = billing.budgets_spent(rows.values_list("pk", flat=True), month_of(now()))
        return paginate(self, request, rows, lambda row: _present(row, spent))

    @extend_schema(
        operation_id="projects_create",
        request=shapes.ProjectCreate,
        responses={201: shapes.Project, 422: serializers.Error},
    )
    def post(self, request: Request) -> Response:
        """Create a project. Not with a key that has a project or a budget itself."""
        body = shapes.ProjectCreate(data=request.data)
        body.is_valid(raise_exception=True)
        caller = caller_of(request)
        made = projects.project_create(
            org=caller.org,
            name=body.validated_data["name"],
            monthly_budget_nano=body.validated_data.get("monthly_budget_nano_usd"),
            by=caller.key,
        )
        return Response(_one(made), status=201)


class ProjectDetail(APIView):
    """One project."""

    scopes: ClassVar[Scopes] = {"PATCH": (Scope.ADMIN,)}

    @extend_schema(
        operation_id="projects_update",
        request=shapes.ProjectPatch,
        responses={200: shapes.Project, 422: serializers.Error},
    )
    def patch(self, request: Request, project_id: str) -> Response:
        """Rename a project, change its budget, or archive it."""
        body = shapes.ProjectPatch(data=request.data)
        body.is_valid(raise_exception=True)
        data, caller = body.validated_data, caller_of(request)
        archived = data.pop("archived", None)
        if archived is False or (archived and data):
            raise InvalidInput(
                "Archiving is for good, and stands alone.", fields={"archived": ["true, or none."]}
            )
        if archived:
            row = projects.project_archive(org=caller.org, project_id=project_id, by=caller.key)
        else:
            row = projects.project_update(
                org=caller.org,
                project_id=project_id,
                name=data.get("name", projects.KEEP),
                monthly_budget_nano=data.get("monthly_budget_nano_usd", projects.KEEP),
                by=caller.key,
            )
        return Response(_one(row))


class BalanceDetail(APIView):
    """The balance."""

    @extend_schema(operation_id="balance_get", responses=shapes.BalanceWithGrants)
    def get(self, request: Request) -> Response:
        """Return what can be spent, and the grants in the order in which they are used."""
        org = caller_of(request).org
        grants = billing.grants_of(org.pk)
        models, vendors = grant_scopes(grants)
        return Response(
            {
                "balance": present.balance(billing.balance_of(org.pk)),
                "grants": [
                    {
                        "id": row.pk,
                        "amount_nano_usd": row.amount_nano,
                        "remaining_nano_usd": row.remaining_nano,
                        "held_nano_usd": row.held_nano,
                        "priority": row.priority,
                        "expires_at": row.expires_at,
                        "model": models.get(row.model_id),
                        "vendor": vendors.get(row.vendor_id),
                        "note": row.note,
                        "created_at": row.created_at,
                    }
                    for row in grants
                ],
            }
        )
