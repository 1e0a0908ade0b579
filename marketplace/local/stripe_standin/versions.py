"""Where the API version that we pin differs from the description that the wheel carries.

The published description is of 2026-05-27.dahlia; the SDK pins 2026-10-28.endive. Their
differences on our endpoints, read off SDK 16.1, are translated here and nowhere else: requests
of the newer version are turned into the older before they are checked, answers back again.
"""

from __future__ import annotations

from typing import Any

from marketplace.local.stripe_standin.errors import ApiError

ENDIVE = "2026-10-28"
_RENAMED = ("allowed_payment_method_types", "payment_method_types")
_RENAMING_PATHS = ("/v1/payment_intents", "/v1/setup_intents", "/v1/checkout/sessions")
_RENAMING_KINDS = ("payment_intent", "setup_intent", "checkout.session")


def is_endive(version: str | None) -> bool:
    """Whether a `Stripe-Version` header asks for endive or newer."""
    return version is not None and version[:10] >= ENDIVE


def request_to_description(path: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of an endive request as the description's version names them."""
    newer, older = _RENAMED
    if path.startswith(_RENAMING_PATHS):
        if older in params:
            raise ApiError(
                f"Received unknown parameter: {older}. Did you mean {newer}?",
                code="parameter_unknown",
                param=older,
            )
        if newer in params:
            params = {older if key == newer else key: value for key, value in params.items()}
    if path == "/v2/core/account_links":
        params = _with_configurations(params)
    return params


def _with_configurations(params: dict[str, Any]) -> dict[str, Any]:
    """Endive takes the configurations from the account; dahlia wants them in the link."""
    use_case = params.get("use_case")
    if not isinstance(use_case, dict):
        return params
    changed = {
        name: {"configurations": ["recipient"], **value} if isinstance(value, dict) else value
        for name, value in use_case.items()
    }
    return {**params, "use_case": changed}


def answer_to_endive(body: Any) -> Any:
    """Return an answer (or an object in it) with the field names of endive."""
    if isinstance(body, list):
        return [answer_to_endive(item) for item in body]
    if not isinstance(body, dict):
        return body
    renames = body.get("object") in _RENAMING_KINDS
    newer, older = _RENAMED
    return {
        newer if renames and key == older else key: answer_to_endive(value)
        for key, value in body.items()
    }
