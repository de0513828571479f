"""What keys need of the world."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from gateway.keys.records import Key, NewKey
from stepwire.api_keys import KeyHash


class KeyStore(Protocol):
    """Keeps keys. Every method raises DEPENDENCY_UNAVAILABLE when the record is away."""

    async def add(
        self, new: NewKey, kept: KeyHash, *, lifetime: timedelta | None, request_id: str
    ) -> Key:
        """Adds a key; the same call again gives its key another secret.

        Raises:
            StepwireError: REQUEST_ID_REUSED.
        """

    async def add_first(self, new: NewKey, kept: KeyHash) -> bool:
        """Adds a key that settings give, unless it was added before; tells whether it was."""

    async def find(self, key_ids: Sequence[str]) -> Sequence[Key | None]:
        """Returns keys by their ids, in their order; None for one that is not there."""

    async def list(self, *, tenant_id: str, after: str, limit: int) -> Sequence[Key]:
        """Returns keys behind one, oldest first; of one tenant, or with "" of all."""

    async def revoke(self, key_id: str) -> Key | None:
        """Ends a key; None if it is not there."""

    async def rotate(
        self, key_id: str, digest: bytes, *, overlap: timedelta, request_id: str
    ) -> Key | None:
        """Gives a key another secret; None for one that is not there or no longer good."""

    async def touch(self, used: Mapping[str, datetime]) -> None:
        """Notes when keys were used last."""
