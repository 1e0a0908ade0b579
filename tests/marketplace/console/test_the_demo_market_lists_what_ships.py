"""The seed lists each model and LoRA that ships, once however often it runs."""

import pytest

from inference import starter
from marketplace.catalog.models import Status, Version
from marketplace.console.demo_market import seed

pytestmark = pytest.mark.django_db


def test_models_and_loras_that_ship_are_listed_once():
    seed()
    seed()
    listed = Version.objects.filter(status=Status.LISTED)
    uris = [v.weights_uri for v in listed if v.model.org.slug == "starter-lab"]
    assert sorted(uris) == sorted(f"starter:{n}" for n in [*starter.names(), *starter.loras()])
    night = listed.get(model__name="starter-night")
    assert night.lora
    assert night.base.model.name == "starter-image"
