"""What is known of a key. Pure."""

from dataclasses import dataclass, field
from datetime import datetime

from gateway.public import Scope


@dataclass(frozen=True, slots=True)
class NewKey:
    """What its maker decides of a key; see key_service.proto."""

    tenant_id: str
    name: str
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is recorded.

    Attributes:
        digest: SHA-256 of its secret.
        previous_digest: That of the secret before the last rotation; None if there is none.
        previous_until: Until when that one is good.
        expires_at: From when on the key is refused; None for never.
        revoked_at: When it was revoked; None if it was not.
        last_used_at: When it was last used, as far as that is written down.
    """

    key_id: str
    tenant_id: str
    name: str
    scopes: frozenset[Scope]
    digest: bytes = field(repr=False)
    previous_digest: bytes | None = field(repr=False)
    previous_until: datetime | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Revealed:
    """A key, and its text, which is told once."""

    key: Key
    text: str = field(repr=False)
