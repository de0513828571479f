"""Tokens of pages of collections."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire.errors import Reason, StepwireError
from vector_svc.page_tokens import make_token, read_token


@given(st.text(), st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True))
def test_a_token_is_read_back(tenant_id: str, name: str) -> None:
    assert read_token(tenant_id, make_token(tenant_id, name)) == name


def test_no_token_means_from_the_beginning() -> None:
    assert read_token("t", "") == ""


@given(st.text(min_size=1))
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(StepwireError) as caught:
        read_token("t", token)
    assert caught.value.reason is Reason.PAGE_TOKEN_INVALID
    assert caught.value.metadata == {"field": "page_token"}


def test_a_changed_token_and_another_tenants_are_refused() -> None:
    data = bytearray(base64.urlsafe_b64decode(make_token("t", "name")))
    data[-1] ^= 1
    for token in (base64.urlsafe_b64encode(data).decode(), make_token("u", "name")):
        with pytest.raises(StepwireError, match="page_token"):
            read_token("t", token)
