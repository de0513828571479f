"""Signatures of webhooks, made and checked."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire.sdk.webhooks import (
    SignatureError,
    decode_secret,
    encode_secret,
    new_secret,
    signed_headers,
    verify,
)

NOW = 1_700_000_000
SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 64).decode()
BODY = b'{"type":"task.succeeded","data":{}}'


def headers_of(*secrets, body=BODY, now=NOW):
    keys = [decode_secret(secret) for secret in secrets or (SECRET,)]
    return signed_headers(keys, webhook_id="msg", body=body, now=now)


def test_what_others_compute():
    """The example that implementations of the specification are tried with."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    webhook_id, timestamp = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    body = b'{"test": 2432232314}'
    headers = signed_headers(
        [decode_secret(secret)], webhook_id=webhook_id, body=body, now=timestamp
    )
    assert headers == {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert verify(body, headers, secret, now=timestamp).event == {"test": 2432232314}


def test_a_delivery_is_read():
    delivery = verify(BODY, headers_of(), SECRET, now=NOW + 10)
    assert delivery.webhook_id == "msg"
    assert delivery.sent_at == datetime.fromtimestamp(NOW, tz=UTC)
    assert delivery.event == {"type": "task.succeeded", "data": {}}


def test_headers_come_in_any_case():
    headers = {name.title(): value for name, value in headers_of().items()}
    assert verify(BODY, headers, SECRET, now=NOW)


def test_the_clock_is_asked_where_no_time_is_given():
    headers = signed_headers([decode_secret(SECRET)], webhook_id="msg", body=BODY)
    assert verify(BODY, headers, SECRET)
    with pytest.raises(SignatureError, match="from now"):
        verify(BODY, headers_of(), SECRET)


@pytest.mark.parametrize("secret", [SECRET, OTHER, [OTHER, SECRET], [new_secret(), SECRET]])
def test_while_a_secret_changes_both_are_good(secret):
    assert verify(BODY, headers_of(OTHER, SECRET), secret, now=NOW)


def test_signatures_of_other_versions_are_passed_over():
    headers = headers_of()
    headers["webhook-signature"] = f"v1a,abc {headers['webhook-signature']} v2,é"
    assert verify(BODY, headers, SECRET, now=NOW)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"webhook-id": "another"}, "no signature"),
        ({"webhook-timestamp": str(NOW + 1)}, "no signature"),
        ({"webhook-signature": "v1,"}, "no signature"),
        ({"webhook-signature": ""}, "no signature"),
        ({"webhook-timestamp": ""}, "not a number"),
        ({"webhook-timestamp": "-1"}, "not a number"),
        ({"webhook-timestamp": "1_700_000_000"}, "not a number"),
        ({"webhook-timestamp": "٣"}, "not a number"),
        ({"webhook-timestamp": "9" * 5000}, "not a number"),
    ],
)
def test_headers_that_were_changed(change, says):
    with pytest.raises(SignatureError, match=says):
        verify(BODY, {**headers_of(), **change}, SECRET, now=NOW)


def test_a_signature_of_another_version_is_not_taken_for_ours():
    headers = headers_of()
    headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v2,")
    with pytest.raises(SignatureError):
        verify(BODY, headers, SECRET, now=NOW)


def test_more_signatures_than_a_sender_has_are_not_looked_at():
    headers = headers_of()
    headers["webhook-signature"] = "v1,x " * 16 + headers["webhook-signature"]
    with pytest.raises(SignatureError):
        verify(BODY, headers, SECRET, now=NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing(name):
    headers = headers_of()
    del headers[name]
    with pytest.raises(SignatureError, match=f"{name} is missing"):
        verify(BODY, headers, SECRET, now=NOW)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_only_the_body_that_was_signed(signed, got):
    headers = headers_of(body=b'"' + signed.hex().encode() + b'"')
    body = b'"' + got.hex().encode() + b'"'
    if signed == got:
        assert verify(body, headers, SECRET, now=NOW).event == signed.hex()
    else:
        with pytest.raises(SignatureError):
            verify(body, headers, SECRET, now=NOW)


def test_another_secret_does_not_fit():
    with pytest.raises(SignatureError):
        verify(BODY, headers_of(), OTHER, now=NOW)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_delivery_of_another_time(seconds):
    with pytest.raises(SignatureError, match="300 s from now"):
        verify(BODY, headers_of(), SECRET, now=NOW + seconds)
    tolerance = timedelta(seconds=302)
    assert verify(BODY, headers_of(), SECRET, now=NOW + seconds, tolerance=tolerance)


def test_a_body_that_is_no_json():
    with pytest.raises(SignatureError, match="not JSON"):
        verify(b"{", headers_of(body=b"{"), SECRET, now=NOW)


@given(st.binary(min_size=24, max_size=64))
def test_secrets_are_written_and_read(key):
    assert decode_secret(encode_secret(key)) == key


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        base64.b64encode(b"k" * 24).decode(),
        encode_secret(b"k" * 23),
        encode_secret(b"k" * 65),
        "whsec_not base64 at all, though long enough",
        "whsec_é",
    ],
)
def test_what_is_no_secret(secret):
    with pytest.raises(ValueError, match="a secret is whsec_") as caught:
        decode_secret(secret)
    assert secret in ("", "whsec_") or secret not in str(caught.value)
    with pytest.raises(ValueError, match="a secret is whsec_"):
        verify(BODY, headers_of(), secret, now=NOW)


def test_new_secrets_differ():
    assert len({new_secret() for _ in range(100)}) == 100
    assert len(decode_secret(new_secret())) == 32
