"""What the OpenAPI document says of authentication, and of errors that any view may answer."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from marketplace.api.auth import PublicRead


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes the key in the OpenAPI document."""

    target_class = "marketplace.api.auth.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the scheme."""
        return {"type": "http", "scheme": "bearer", "description": "An API key, mk_…"}


_WITH_BODY = ("POST", "PUT", "PATCH")
_DESCRIPTIONS = {
    "400": "The address or the body cannot be read.",
    "401": "The key is missing, wrong, revoked or has expired.",
    "403": "The key may not do this.",
    "404": "There is no such thing, or it is another organisation's.",
    "413": "The body is too large.",
    "415": "The body is not of a type that we take.",
    "422": "A field is not valid; `error.fields` names it.",
    "429": "Too many requests; `Retry-After` says how many seconds to wait.",
}


class Schema(AutoSchema):
    """Says of what everybody may read that it needs no key, and lists the errors of every view."""

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        """Add the errors that come from what all views share, where a view says nothing else."""
        from marketplace.api.v1.serializers import Error

        found = super()._get_response_bodies(direction)
        for code in self._shared_errors():
            described = OpenApiResponse(Error, description=_DESCRIPTIONS[code])
            if code not in found:
                found[code] = self._get_response_for_code(described, code)  # type: ignore[no-untyped-call]
        return dict(sorted(found.items()))

    def _shared_errors(self) -> list[str]:
        body = self.method in _WITH_BODY and self.get_request_serializer() is not None
        inputs = body or any(
            isinstance(each, OpenApiParameter)
            and each.location in (OpenApiParameter.QUERY, OpenApiParameter.HEADER)
            for each in self.get_override_parameters()
        )
        public = any(isinstance(each, PublicRead) for each in self.view.get_permissions())
        codes = ["400", "401", "429"]
        codes += [] if public else ["403"]
        codes += ["404"] if "{" in self.path else []
        codes += ["413", "415"] if body else []
        return codes + (["422"] if inputs else [])

    def get_auth(self) -> list[dict[str, Any]]:
        """Return the ways to authenticate; an empty one means that none is needed."""
        found: list[dict[str, Any]] = super().get_auth()
        if any(isinstance(each, PublicRead) for each in self.view.get_permissions()):
            found.append({})
        return found
