"""Which models and versions a caller may see."""

from typing import Any, Self, TypeVar

from django.db.models import Model, Q, QuerySet

from marketplace.accounts.querysets import OrgQuerySet
from marketplace.core.clock import now

M_co = TypeVar("M_co", bound=Model, covariant=True)


class ModelQuerySet(OrgQuerySet[M_co]):
    """Models: public ones with a listed version are everybody's, the rest their vendor's."""

    def public(self) -> Self:
        """Return what the gallery shows."""
        return self.filter(
            visibility="public", versions__status="listed", org__suspended_at__isnull=True
        ).distinct()

    def visible_to(self, org: Any | None) -> Self:
        """Return what `org` may read: listed public or unlisted models, and its own."""
        listed = Q(
            visibility__in=["public", "unlisted"],
            versions__status="listed",
            org__suspended_at__isnull=True,
        )
        return self.filter(listed | Q(org=org) if org is not None else listed).distinct()


class VersionQuerySet(QuerySet[M_co]):
    """Versions belong to the organisation of their model."""

    def for_org(self, org: Any) -> Self:
        """Return only versions of `org`'s models."""
        return self.filter(model__org=org)

    def runnable_by(self, org: Any) -> Self:
        """Return versions that `org` may call: listed ones not private, and its own listed ones.

        One whose time is up is nobody's, nor is one of a suspended vendor.
        """
        there = Q(status="listed", model__org__suspended_at__isnull=True)
        listed = there & ~Q(retirement__ends_at__lte=now())
        return self.filter(
            listed & (Q(model__visibility__in=["public", "unlisted"]) | Q(model__org=org))
        )
