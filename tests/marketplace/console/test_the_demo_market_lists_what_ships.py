"""The seed lists each model and LoRA that ships, once however often it runs."""

import pytest

from inference import starter
from marketplace.catalog.models import Status, Version
from marketplace.catalog.samples import samples_of
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


def test_each_model_of_the_demo_shows_what_it_made():
    seed()
    listed = list(Version.objects.filter(status=Status.LISTED))
    shown = samples_of(listed)
    assert {version.pk for version in listed} == set(shown)
    assert all(row.prompt and row.width for rows in shown.values() for row in rows)
