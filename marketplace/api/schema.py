"""What the OpenAPI document says of authentication."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from marketplace.api.auth import PublicRead


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes the key in the OpenAPI document."""

    target_class = "marketplace.api.auth.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the scheme."""
        return {"type": "http", "scheme": "bearer", "description": "An API key, mk_…"}


class Schema(AutoSchema):
    """Says of what everybody may read that it needs no key."""

    def get_auth(self) -> list[dict[str, Any]]:
        """Return the ways to authenticate; an empty one means that none is needed."""
        found: list[dict[str, Any]] = super().get_auth()
        if any(isinstance(each, PublicRead) for each in self.view.get_permissions()):
            found.append({})
        return found
