"""Webhook signatures by the Standard Webhooks specification 1.0: made here, checked by receivers.

A receiver calls `verify` with the raw body of the request, before it parses it:

    delivery = verify(body, headers, secret)
    if not seen(delivery.webhook_id):
        handle(delivery.event)
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - no secret, but what marks one
MIN_SECRET_BYTES: Final = 24
MAX_SECRET_BYTES: Final = 64
NEW_SECRET_BYTES: Final = 32
# Of the signatures in a header; a sender has two while a secret is being changed.
MAX_SIGNATURES: Final = 16
DEFAULT_TOLERANCE: Final = timedelta(minutes=5)

_VERSION = "v1"


class SignatureError(ValueError):
    """A request is not a delivery that the holder of the secret has sent just now."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery whose signature holds.

    Attributes:
        webhook_id: Names the event for this receiver. A delivery that comes twice has the
            same, so that the second can be passed over.
        sent_at: When this attempt was made.
        event: The body's JSON value.
    """

    webhook_id: str
    sent_at: datetime
    event: Any


def new_secret() -> str:
    """Makes a secret from 32 random bytes."""
    return encode_secret(secrets.token_bytes(NEW_SECRET_BYTES))


def encode_secret(key: bytes) -> str:
    """Returns a secret in the form in which people pass it on."""
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")


def decode_secret(secret: str) -> bytes:
    """Returns the key of a secret.

    Raises:
        ValueError: It is not `whsec_` and the base64 of 24 to 64 bytes. The message does
            not repeat it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError(
            f"a secret is {SECRET_PREFIX} and the base64 of {MIN_SECRET_BYTES} to"
            f" {MAX_SECRET_BYTES} bytes"
        )
    return key


def signed_headers(
    keys: Sequence[bytes], *, webhook_id: str, body: bytes, now: float | None = None
) -> dict[str, str]:
    """Returns the headers of a delivery, with one signature for each key.

    Args:
        keys: What `decode_secret` gives, the newest first.
        webhook_id: Names the event; must have no full stop.
        body: The very bytes that are sent.
        now: Seconds since the epoch; None for the clock's.
    """
    timestamp = str(int(time.time() if now is None else now))
    return {
        ID_HEADER: webhook_id,
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: " ".join(_sign(key, webhook_id, timestamp, body) for key in keys),
    }


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance: timedelta = DEFAULT_TOLERANCE,
    now: float | None = None,
) -> Delivery:
    """Checks that a request is a delivery signed with a secret, and returns it.

    Args:
        body: The request's body as it came.
        headers: The request's headers, in any case.
        secret: The subscription's secret, or several of which one must fit.
        tolerance: How far the time of the attempt may be from now; an older request may be
            one that somebody recorded and sends again.
        now: Seconds since the epoch; None for the clock's.

    Raises:
        SignatureError: It is not such a delivery; the message says why.
        ValueError: `secret` is not a secret.
    """
    keys = [decode_secret(each) for each in ([secret] if isinstance(secret, str) else secret)]
    given = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp, signatures = (
        _header(given, name) for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
    )
    sent = _recent(timestamp, time.time() if now is None else now, tolerance)
    if not _matches(keys, webhook_id, timestamp, body, signatures):
        raise SignatureError(f"no signature in {SIGNATURE_HEADER} fits")
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SignatureError(f"the body is not JSON: {error}") from None
    return Delivery(webhook_id, datetime.fromtimestamp(sent, tz=UTC), event)


def _header(headers: Mapping[str, str], name: str) -> str:
    try:
        return headers[name]
    except KeyError:
        raise SignatureError(f"the header {name} is missing") from None


def _recent(timestamp: str, now: float, tolerance: timedelta) -> int:
    # int() alone would take signs, spaces, underscores and other scripts' digits.
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > len("9999999999"):
        raise SignatureError(f"{TIMESTAMP_HEADER} is not a number of seconds")
    sent = int(timestamp)
    if abs(now - sent) > tolerance.total_seconds():
        raise SignatureError(
            f"{TIMESTAMP_HEADER} is more than {tolerance.total_seconds():g} s from now"
        )
    return sent


def _matches(
    keys: Sequence[bytes], webhook_id: str, timestamp: str, body: bytes, signatures: str
) -> bool:
    wanted = [_sign(key, webhook_id, timestamp, body).encode() for key in keys]
    given = [text.encode() for text in signatures.split(" ")[:MAX_SIGNATURES]]
    # All are compared, each in constant time, so that the time says nothing.
    fits = [hmac.compare_digest(mine, theirs) for mine in wanted for theirs in given]
    return any(fits)


def _sign(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    content = b".".join((webhook_id.encode(), timestamp.encode(), body))
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode('ascii')}"
