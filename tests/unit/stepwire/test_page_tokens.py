"""Tokens of pages of lists."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire.errors import Reason, StepwireError
from stepwire.page_tokens import PageTokens

PAGES = PageTokens("ListThings")


@given(st.text(), st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True))
def test_a_token_is_read_back(tenant_id: str, name: str) -> None:
    assert PAGES.read(tenant_id, PAGES.make(tenant_id, name)) == name


def test_no_token_means_from_the_beginning() -> None:
    assert PAGES.read("t", "") == ""


@given(st.text(min_size=1))
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(StepwireError) as caught:
        PAGES.read("t", token)
    assert caught.value.reason is Reason.PAGE_TOKEN_INVALID
    assert caught.value.metadata == {"field": "page_token"}


def test_a_changed_token_and_another_tenants_are_refused() -> None:
    data = bytearray(base64.urlsafe_b64decode(PAGES.make("t", "name")))
    data[-1] ^= 1
    for token in (base64.urlsafe_b64encode(data).decode(), PAGES.make("u", "name")):
        with pytest.raises(StepwireError, match="page_token"):
            PAGES.read("t", token)


def test_another_lists_token_is_refused() -> None:
    with pytest.raises(StepwireError, match="ListOthers"):
        PageTokens("ListOthers").read("t", PAGES.make("t", "name"))
