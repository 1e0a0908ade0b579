"""Which models are meant by a name without a vendor, as published clients send it.

Anybody may list a model under a name that another vendor has made known, so a bare name is
never good for all that have it.
"""

from django.db.models import Exists, OuterRef, QuerySet

from marketplace.accounts.models import ApiKey
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Model, Version
from marketplace.jobs import requests
from marketplace.jobs.models import Job


def refs_named(key: ApiKey, name: str) -> list[str]:
    """Return what `name` means to a key's organisation, as `vendor/name`; nothing if that is open.

    It is what the key may run, if that is one; else what the organisation has called before; else
    the only one that it could call.
    """
    allowed = requests.allowed_models(key)
    mine = [ref for ref in allowed if ref.rpartition("/")[2] == name]
    if allowed and len(mine) < 2:
        return mine
    models = Model.objects.filter(name=name)
    calls = Job.objects.for_org(key.org).filter(version__model=OuterRef("pk"))
    called = _refs(models.filter(Exists(calls)))
    if allowed:
        return [ref for ref in called if ref in mine]
    if called:
        return called
    found = _refs(catalog.models_callable(key.org).filter(name=name)) or _refs(
        models.filter(pk__in=Version.objects.runnable_by(key.org).values("model"))
    )
    return found if len(found) == 1 else []


def _refs(models: "QuerySet[Model]") -> list[str]:
    return sorted(model.ref for model in models.select_related("org"))
