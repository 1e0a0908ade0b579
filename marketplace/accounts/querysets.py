"""Tenant scoping, in one method that every table with an owner has."""

from typing import Any, Self, TypeVar

from django.db import models

M_co = TypeVar("M_co", bound=models.Model, covariant=True)


class OrgQuerySet(models.QuerySet[M_co]):
    """A QuerySet of rows that belong to an organisation through the column `org`."""

    def for_org(self, org: Any) -> Self:
        """Return only what belongs to `org`."""
        return self.filter(org=org)
