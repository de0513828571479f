"""Between the messages of KeyService and its records."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from gateway.keys import rules
from gateway.keys.records import Key, NewKey
from gateway.public import Scope
from stepwire.api.gateway.v1 import key_service_pb2 as pb
from stepwire.errors import field_invalid
from stepwire.names import check_name
from stepwire.page_tokens import PageTokens

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1_000
DEFAULT_SCOPES: Final = frozenset({Scope.READ, Scope.WRITE})
PAGES: Final = PageTokens("ListKeys")

_SCOPES: Final[Mapping[int, Scope]] = {
    pb.KeyScope.Value(f"KEY_SCOPE_{scope.name}"): scope for scope in Scope
}
_NUMBERS: Final = {scope: number for number, scope in _SCOPES.items()}


def new_key_of(request: pb.CreateKeyRequest, *, tenant_id: str) -> NewKey:
    """Reads which key is wanted; of this tenant, if it names none.

    Raises:
        StepwireError: FIELD_INVALID, naming the field; so do the others here.
    """
    return NewKey(
        tenant_id=rules.check_tenant(request.tenant_id or tenant_id),
        name=check_name(request.name),
        scopes=frozenset(_scope_of(number) for number in request.scopes) or DEFAULT_SCOPES,
    )


def lifetime_of(request: pb.CreateKeyRequest) -> timedelta | None:
    """Reads how long a key is good; None for ever."""
    if not request.HasField("lifetime"):
        return None
    return rules.check_lifetime(_span_of(request.lifetime, field="lifetime"))


def overlap_of(request: pb.RotateKeyRequest) -> timedelta:
    """Reads how long the secret before is good."""
    if not request.HasField("overlap"):
        return rules.DEFAULT_OVERLAP
    return rules.check_overlap(_span_of(request.overlap, field="overlap"))


def page_size_of(size: int) -> int:
    """Returns the number of keys on a page."""
    if size < 0:
        raise field_invalid("page_size", "must not be negative")
    return min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def write_key(key: Key, message: pb.Key) -> None:
    """Writes a key, without its secrets."""
    message.key_id = key.key_id
    message.tenant_id = key.tenant_id
    message.name = key.name
    message.scopes.extend(sorted(_NUMBERS[scope] for scope in key.scopes))  # type: ignore[misc]
    message.create_time.FromDatetime(key.created_at)
    for moment, field in (
        (key.expires_at, message.expire_time),
        (key.revoked_at, message.revoke_time),
        (key.last_used_at, message.last_use_time),
        (_overlap_end(key), message.previous_secret_end_time),
    ):
        if moment is not None:
            field.FromDatetime(moment)


def _overlap_end(key: Key) -> datetime | None:
    """Returns until when the secret before is good; None if it is not."""
    if key.previous_until is None or key.revoked_at is not None:
        return None
    return key.previous_until if key.previous_until > datetime.now(UTC) else None


def _scope_of(number: int) -> Scope:
    if number not in _SCOPES:
        raise field_invalid("scopes", f"{number} is no scope")
    return _SCOPES[number]


def _span_of(duration: Duration, *, field: str) -> timedelta:
    try:
        return duration.ToTimedelta()
    except (ValueError, OverflowError):
        raise field_invalid(field, "is not a valid span of time") from None
