"""From sign-up to the page of a model with the free credit named: two forms and one link."""

import re
import uuid

import pytest
from django.core import mail

from marketplace.catalog.models import Model
from marketplace.jobs.models import Job
from tests.cast import listed_version


def sign_up(client, **more):
    # An address of its own: mails to one are limited, and the limit outlives a test.
    email = f"{uuid.uuid4().hex}@example.org"
    given = {"email": email, "password1": "correct horse battery", **more}
    assert client.post("/accounts/signup/", given)["Location"] == "/accounts/confirm-email/"
    link = re.search(r"/accounts/confirm-email/\S+", mail.outbox[-1].body)[0]
    assert client.get(link).status_code == 200
    return client.post(link)


def test_a_new_user_lands_on_a_model_with_the_credit_named(visitor, cast):
    answer = sign_up(visitor)
    assert answer["Location"] == "/models/atelier/sketch/#try"
    page = visitor.get("/models/atelier/sketch/").content.decode()
    assert "You have $1.00 of free credit" in page
    assert "Successfully signed in" not in page


def test_who_came_from_a_model_goes_back_to_it(visitor, cast):
    listed_version(cast.vendor, cast.licence, cast.sam, name="other")
    answer = sign_up(visitor, next="/models/atelier/other/")
    assert answer["Location"] == "/models/atelier/other/"


def test_an_address_elsewhere_is_not_followed(visitor, cast):
    answer = sign_up(visitor, next="https://example.com/")
    assert answer["Location"] == "/models/atelier/sketch/#try"


def test_without_a_model_one_lands_on_the_dashboard(visitor, cast):
    Model.objects.update(visibility="private")
    assert sign_up(visitor)["Location"] == "/dashboard/"


def test_the_first_run_is_paid_by_the_credit(visitor, cast):

    sign_up(visitor)
    given = {"nonce": "n", "in-prompt": "a red circle", "in-num_images": "1"}
    visitor.post("/models/atelier/sketch/run/", given)
    job = Job.objects.get()
    assert job.org.members.get().email == mail.outbox[-1].to[0]
    assert job.quote_nano == 4_000_000


def test_the_mail_says_what_to_do(visitor, cast):
    sign_up(visitor)
    message = mail.outbox[-1]
    assert "Confirm your e-mail address" in message.subject
    assert "Open this link" in message.body
    assert "&" not in message.body


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/signup/",
        "/accounts/login/",
        "/accounts/confirm-email/",
        "/accounts/confirm-email/nonsense/",
        "/accounts/password/reset/",
        "/accounts/password/reset/done/",
    ],
)
def test_pages_of_the_entrance_have_one_heading_and_our_frame(visitor, db, path):
    page = visitor.get(path).content.decode()
    assert page.count("<h1") == 1
    assert "mercato.css" in page
    assert 'name="viewport"' in page


def test_a_lost_visitor_is_shown_the_way(visitor, db, settings):
    settings.DEBUG = False
    answer = visitor.get("/no/such/page/")
    assert answer.status_code == 404
    assert b'action="/"' in answer.content
