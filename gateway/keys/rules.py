"""Which keys there may be, and which of them are good. Pure."""

import hmac
import re
from datetime import datetime, timedelta
from typing import Final

from gateway.keys.records import Key
from stepwire.api_keys import KeyHash
from stepwire.errors import Reason, StepwireError, field_invalid

TENANT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MAX_REQUEST_ID_CHARACTERS: Final = 128
SHOWN_CHARACTERS: Final = 80
MIN_LIFETIME: Final = timedelta(seconds=1)
MAX_LIFETIME: Final = timedelta(days=36_500)
DEFAULT_OVERLAP: Final = timedelta(hours=24)
MAX_OVERLAP: Final = timedelta(days=7)


def fault_of(key: Key | None, presented: KeyHash, now: datetime) -> Reason | None:
    """Returns why a key is refused; None if it is good.

    That it is revoked or expired is told only to who has its secret. Digests are compared in
    a time that tells nothing of them.

    Args:
        key: The key of the id that was presented, if there is one.
        presented: What the caller has brought.
        now: The time.
    """
    if key is None:
        return Reason.KEY_INVALID
    until = key.expires_at
    if not hmac.compare_digest(key.digest, presented.digest):
        if not hmac.compare_digest(key.previous_digest or b"", presented.digest):
            return Reason.KEY_INVALID
        assert key.previous_until is not None
        until = min(key.previous_until, until or key.previous_until)
    if key.revoked_at is not None:
        return Reason.KEY_REVOKED
    return Reason.KEY_EXPIRED if until is not None and now >= until else None


def check_tenant(tenant_id: str) -> str:
    """Returns a tenant that keeps the rules.

    Raises:
        StepwireError: FIELD_INVALID; so do the others here.
    """
    if not TENANT.fullmatch(tenant_id):
        raise field_invalid(
            "tenant_id",
            f"{tenant_id[:SHOWN_CHARACTERS]!r} must be a lower-case letter or digit followed by at"
            " most 62 lower-case letters, digits, underscores or hyphens",
        )
    return tenant_id


def check_request_id(request_id: str) -> str:
    """Returns a request id that keeps its limit."""
    if len(request_id) > MAX_REQUEST_ID_CHARACTERS or "\0" in request_id:
        raise field_invalid(
            "request_id", f"must have at most {MAX_REQUEST_ID_CHARACTERS} characters"
        )
    return request_id


def check_lifetime(lifetime: timedelta) -> timedelta:
    """Returns how long a key is good."""
    if not MIN_LIFETIME <= lifetime <= MAX_LIFETIME:
        raise field_invalid("lifetime", "must be from a second to a hundred years")
    return lifetime


def check_overlap(overlap: timedelta) -> timedelta:
    """Returns how long the secret before is good."""
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise field_invalid("overlap", "must be from 0 to 7 days")
    return overlap


def not_found(key_id: str) -> StepwireError:
    """Returns the error for a key that is not there."""
    shown = key_id[:SHOWN_CHARACTERS]
    return StepwireError(
        Reason.KEY_NOT_FOUND, f"no key has the id {shown!r}", metadata={"key_id": shown}
    )


def reused(request_id: str) -> StepwireError:
    """Returns the error for a request id that another call had."""
    return StepwireError(
        Reason.REQUEST_ID_REUSED,
        f"request_id {request_id!r} was used for another key, or too long ago",
        metadata={"request_id": request_id},
    )
