"""A key is checked with one query and no slow hash; a typo needs no query at all."""

import pytest

from marketplace.accounts import tokens
from marketplace.accounts.models import ApiKey
from marketplace.accounts.selectors import api_key_authenticate
from marketplace.core.clock import now
from marketplace.core.errors import NotAuthenticated


def test_one_query(cast, django_assert_num_queries):
    ApiKey.objects.filter(pk=cast.key.pk).update(last_used_at=now())
    with django_assert_num_queries(1):
        assert api_key_authenticate(cast.secret).org == cast.developer


def test_the_use_is_noted_at_most_once_a_minute(cast, django_assert_num_queries):
    with django_assert_num_queries(2):
        api_key_authenticate(cast.secret)
    with django_assert_num_queries(1):
        api_key_authenticate(cast.secret)


def test_a_typo_costs_no_query(cast, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(NotAuthenticated):
        api_key_authenticate(cast.secret[:-1] + "_")


def test_tokens_have_a_form_of_their_own():
    token = tokens.new_token()
    assert token.startswith("mk_")
    assert tokens.is_well_formed(token)
    assert len({tokens.new_token() for _ in range(100)}) == 100
    swapped = token[:5] + token[6] + token[5] + token[7:]
    assert swapped == token or not tokens.is_well_formed(swapped)
