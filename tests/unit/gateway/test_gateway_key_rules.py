import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.records import Key
from gateway.keys.rules import fault_of
from gateway.public import Scope
from stepwire.api_keys import (
    KeyHash,
    digest_of,
    key_text,
    new_key_id,
    new_secret,
    read_key,
    read_reference,
)
from stepwire.errors import Reason

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER, EARLIER = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)
KEY = Key(
    key_id="a" * 16,
    tenant_id="acme",
    name="ci",
    scopes=frozenset({Scope.READ}),
    digest=digest_of("now"),
    previous_digest=digest_of("before"),
    previous_until=LATER,
    created_at=EARLIER,
    expires_at=None,
    revoked_at=None,
    last_used_at=None,
)


def test_a_new_key_can_be_read() -> None:
    key_id, secret = new_key_id(), new_secret()
    read = read_key(key_text(key_id, secret))
    assert read == KeyHash(key_id, hashlib.sha256(secret.encode()).digest())
    assert read_reference(read.reference) == read
    assert read_reference(key_text(key_id, secret)) == read
    assert secret not in repr(read)
    assert read.digest.hex() not in repr(read)


@given(st.text())
def test_what_is_no_key_is_not_read(text: str) -> None:
    assert read_key(text) is None
    assert read_reference(text) is None


@pytest.mark.parametrize("change", ["{}x", "x{}", "{} ", "{}\n"])
def test_a_key_is_read_whole(change: str) -> None:
    assert read_key(change.format(key_text(new_key_id(), new_secret()))) is None


def test_secrets_have_256_random_bits() -> None:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    numbers = [
        sum(alphabet.index(digit) * 62**place for place, digit in enumerate(new_secret()))
        for _ in range(200)
    ]
    assert len(set(numbers)) == len(numbers)
    # All bits are seen as 0 and as 1, and none above.
    seen_1, seen_0 = 0, 0
    for number in numbers:
        seen_1, seen_0 = seen_1 | number, seen_0 | ~number
    assert seen_1 == 2**256 - 1
    assert seen_0 & seen_1 == seen_1


@pytest.mark.parametrize(
    ("key", "secret", "fault"),
    [
        (KEY, "now", None),
        (KEY, "before", None),
        (KEY, "other", Reason.KEY_INVALID),
        (None, "now", Reason.KEY_INVALID),
        (replace(KEY, previous_until=NOW), "before", Reason.KEY_EXPIRED),
        (replace(KEY, previous_until=NOW), "now", None),
        (replace(KEY, previous_digest=None, previous_until=None), "before", Reason.KEY_INVALID),
        (replace(KEY, expires_at=LATER), "now", None),
        (replace(KEY, expires_at=NOW), "now", Reason.KEY_EXPIRED),
        (replace(KEY, expires_at=NOW), "before", Reason.KEY_EXPIRED),
        (replace(KEY, revoked_at=EARLIER), "now", Reason.KEY_REVOKED),
        (replace(KEY, revoked_at=EARLIER), "before", Reason.KEY_REVOKED),
        # Who has not the secret is told nothing of the key.
        (replace(KEY, revoked_at=EARLIER, expires_at=EARLIER), "other", Reason.KEY_INVALID),
    ],
)
def test_faults(key: Key | None, secret: str, fault: Reason | None) -> None:
    assert fault_of(key, KeyHash(KEY.key_id, digest_of(secret)), NOW) is fault
