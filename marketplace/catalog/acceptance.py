"""Who has accepted which licence: non-commercial terms bind only those who said yes to them."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings

from marketplace.accounts.models import ApiKey, Organisation, User
from marketplace.catalog.models import DeclaredUse, Licence, LicenceAcceptance, LicenceKind
from marketplace.core.errors import InvalidInput, NotAllowed, NotFound
from marketplace.core.ids import parse_id


def licence_get(licence_id: object) -> Licence:
    """Return terms by their id, which is not secret: anybody may read them. Raises NotFound."""
    found = Licence.objects.select_related("org").filter(pk=parse_id(licence_id)).first()
    if found is None:
        raise NotFound("There is no such licence.")
    return found


def missing(org: Organisation, licences: Iterable[Licence]) -> list[Licence]:
    """Return those of `licences` that `org` must accept before it calls, its own apart."""
    asked = [row for row in licences if row.must_be_accepted and row.org_id != org.pk]
    if not asked:
        return []
    accepted = LicenceAcceptance.objects.for_org(org).filter(licence__in=asked)
    done = set(accepted.values_list("licence_id", "text_digest"))
    return [row for row in asked if (row.pk, row.text_digest) not in done]


def how(licence: Licence) -> dict[str, Any]:
    """Return what a caller needs to know to accept a licence."""
    place = f"{settings.PUBLIC_URL}/v1/licences/{licence.pk}"
    return {
        "id": str(licence.pk),
        "title": str(licence),
        "kind": licence.kind,
        "text_digest": licence.text_digest,
        "read": place,
        "accept": f"{place}/accept",
    }


def require(org: Organisation, licences: Iterable[Licence]) -> None:
    """Raise NotAllowed, naming each licence and how to accept it, where one is not accepted."""
    if lacking := missing(org, licences):
        names = ", ".join(str(row) for row in lacking)
        raise NotAllowed(
            f"{org.name} has not accepted the licence {names}. Read it, then accept it.",
            code="licence_not_accepted",
            extra={"licences": [how(row) for row in lacking]},
        )


def licence_accept(
    *,
    org: Organisation,
    licence: Licence,
    text_digest: str,
    declared_use: str,
    user: User | None = None,
    api_key: ApiKey | None = None,
) -> LicenceAcceptance:
    """Record that `org` accepts the text with this digest for the declared use, once.

    Raises InvalidInput for another text, or a use that the licence does not allow.
    """
    if text_digest != licence.text_digest:
        why = "This is not the digest of the licence's text: read it again."
        raise InvalidInput(why, fields={"text_digest": [why]})
    if declared_use not in DeclaredUse.values:
        why = f"Declare one of {', '.join(DeclaredUse.values)}."
        raise InvalidInput(why, fields={"declared_use": [why]})
    if licence.kind == LicenceKind.NON_COMMERCIAL and declared_use != DeclaredUse.NON_COMMERCIAL:
        why = f"{licence} allows non-commercial use only."
        raise InvalidInput(why, fields={"declared_use": [why]})
    row, _ = LicenceAcceptance.objects.get_or_create(
        org=org,
        licence=licence,
        declared_use=declared_use,
        defaults={"text_digest": text_digest, "user": user, "api_key": api_key},
    )
    return row
