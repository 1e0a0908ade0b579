"""A cached model opens by its digest alone, so a stranger may not register another's digest."""

import threading
from decimal import Decimal

import pytest
from django.db import connection, transaction

from marketplace.catalog import services
from marketplace.catalog.models import Status, Version, Visibility
from marketplace.core.errors import InvalidInput
from tests.cast import SCHEMA, listed_version, open_licence

DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def private(cast):
    """Alice's weights, which nobody else may run."""
    return listed_version(
        cast.vendor,
        cast.licence,
        cast.sam,
        name="secret",
        weights_uri="file:///weights/secret",
        weights_digest=DIGEST,
        visibility=Visibility.PRIVATE,
    )


def register(org, licence, *, uri="hub://acme/tiny", base=None, name="copy", **parts):
    model = services.model_create(org=org, name=name, title="Copy", task="text-to-image")
    return services.version_create(
        model=model,
        **{
            "weights_uri": uri,
            "weights_digest": DIGEST,
            "family": "flux",
            "input_schema": SCHEMA,
            "licence": licence,
            "base": base,
            **parts,
        },
    )


@pytest.mark.parametrize("uri", ["hub://acme/tiny", "file:///weights/secret", "file:///mine"])
def test_a_stranger_cannot_register_anothers_digest(cast, private, uri):
    theirs = open_licence(cast.stranger)
    with pytest.raises(InvalidInput) as refusal:
        register(cast.stranger, theirs, uri=uri)
    assert list(refusal.value.fields) == ["weights_digest"]
    assert cast.vendor.slug not in refusal.value.message
    assert Version.objects.for_org(cast.stranger).count() == 0


def submitted(org, licence, name="copy"):
    version = register(org, licence, name=name)
    services.price_set(version=version, unit="image", unit_price=Decimal("0.01"))
    return services.version_submit(version=version)


def test_a_draft_takes_a_digest_from_nobody(cast):
    register(cast.stranger, open_licence(cast.stranger))
    real = submitted(cast.vendor, cast.licence)
    assert services.version_decide(version=real, after=Status.LISTED, by=cast.sam).listed_at


def test_of_two_drafts_the_one_that_is_listed_first_counts(cast):
    real = submitted(cast.vendor, cast.licence)
    copy = submitted(cast.stranger, open_licence(cast.stranger))
    real = services.version_decide(version=real, after=Status.LISTED, by=cast.sam)
    with pytest.raises(InvalidInput):
        services.version_decide(version=copy, after=Status.LISTED, by=cast.sam)
    copy.refresh_from_db()
    assert copy.status == Status.SUBMITTED
    # A suspension does not open its weights to others, nor does it lose them.
    real = services.version_decide(version=real, after=Status.SUSPENDED, by=cast.sam, note="Wait.")
    with pytest.raises(InvalidInput):
        services.version_decide(version=copy, after=Status.LISTED, by=cast.sam)
    services.version_decide(version=real, after=Status.LISTED, by=cast.sam)


def test_the_same_organisation_may_register_again(cast, private):
    assert register(cast.vendor, cast.licence).weights_digest == DIGEST


def test_who_names_the_version_as_base_may(cast):
    base = listed_version(
        cast.vendor, cast.licence, cast.sam, name="open", weights_uri="hub://acme/tiny",
        weights_digest=DIGEST,
    )  # fmt: skip
    theirs = open_licence(cast.stranger)
    preset = register(cast.stranger, theirs, base=base)
    assert preset.base == base
    # A base of a base is in the chain as well, and its royalty is paid.
    listed = listed_version(
        cast.stranger, theirs, cast.sam, name="tuned", base=base, weights_uri="hub://acme/tuned",
        weights_digest="sha256:" + "e" * 64,
    )  # fmt: skip
    assert register(cast.stranger, theirs, base=listed, name="again").base == listed


def test_a_private_version_is_nobodys_base(cast, private):
    with pytest.raises(InvalidInput) as refusal:
        register(cast.stranger, open_licence(cast.stranger), base=private)
    assert list(refusal.value.fields) == ["base"]


def test_a_base_with_other_weights_does_not_help(cast, private):
    with pytest.raises(InvalidInput) as refusal:
        register(cast.stranger, open_licence(cast.stranger), base=cast.version)
    assert list(refusal.value.fields) == ["weights_digest"]


def test_what_ships_belongs_to_nobody(cast):
    theirs = open_licence(cast.stranger)
    register(cast.vendor, cast.licence, uri="starter:starter-image")
    register(cast.stranger, theirs, uri="starter:starter-image")
    # Nor does the name of a shipped model take a digest away from its vendor.
    assert register(cast.vendor, cast.licence, name="real").weights_digest == DIGEST


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_is_first(cast):
    real = submitted(cast.vendor, cast.licence)
    copy = submitted(cast.stranger, open_licence(cast.stranger))
    problems = []

    def second():
        try:
            services.version_decide(version=copy, after=Status.LISTED, by=cast.sam)
        except InvalidInput as error:
            problems.append(list(error.fields))
        finally:
            connection.close()

    with transaction.atomic():
        services.version_decide(version=real, after=Status.LISTED, by=cast.sam)
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(20)
    assert problems == [["weights_digest"]]


# A LoRA is a version as well


def test_a_lora_names_what_it_changes(cast):
    lora = register(
        cast.vendor, cast.licence, uri="file:///weights/look.safetensors", base=cast.version,
        lora=True,
    )  # fmt: skip
    assert lora.lora
    for change, field in (
        ({"base": None}, "base"),
        ({"family": "sdxl"}, "family"),
        ({"uri": "hub://acme/look"}, "weights_uri"),
    ):
        parts = {"uri": "file:///weights/look", "base": cast.version, "lora": True, **change}
        with pytest.raises(InvalidInput) as refusal:
            register(cast.vendor, cast.licence, name=f"bad-{field[:4]}", **parts)
        assert list(refusal.value.fields) == [field]
