"""Makes, lists, revokes and rotates keys."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from gateway.keys import rules
from gateway.keys.ports import KeyStore
from gateway.keys.records import Key, NewKey, Revealed
from stepwire.api_keys import KeyHash, digest_of, key_text, new_key_id, new_secret
from stepwire.call import new_request_id
from stepwire.errors import field_invalid


class Keys:
    """The keys of an installation.

    Args:
        store: Keeps them.
        changed: Told the id of a key that has changed.
    """

    def __init__(self, store: KeyStore, changed: Callable[[str], None]) -> None:
        self._store = store
        self._changed = changed

    async def create(self, new: NewKey, *, lifetime: timedelta | None, request_id: str) -> Revealed:
        """Makes a key.

        Raises:
            StepwireError: REQUEST_ID_REUSED.
        """
        secret = new_secret()
        key = await self._store.add(
            new,
            KeyHash(new_key_id(), digest_of(secret)),
            lifetime=lifetime,
            request_id=request_id or new_request_id(),
        )
        self._changed(key.key_id)
        return Revealed(key, key_text(key.key_id, secret))

    async def list(self, *, tenant_id: str, after: str, limit: int) -> Sequence[Key]:
        """Returns keys behind one, oldest first; of one tenant, or with "" of all."""
        return await self._store.list(tenant_id=tenant_id, after=after, limit=limit)

    async def revoke(self, key_id: str) -> Key:
        """Ends a key for good.

        Raises:
            StepwireError: KEY_NOT_FOUND.
        """
        key = await self._store.revoke(key_id)
        if key is None:
            raise rules.not_found(key_id)
        self._changed(key_id)
        return key

    async def rotate(self, key_id: str, *, overlap: timedelta, request_id: str) -> Revealed:
        """Gives a key another secret.

        Raises:
            StepwireError: KEY_NOT_FOUND, or FIELD_INVALID for a key that is no longer good.
        """
        secret = new_secret()
        key = await self._store.rotate(
            key_id,
            digest_of(secret),
            overlap=overlap,
            request_id=request_id or new_request_id(),
        )
        if key is None:
            (old,) = await self._store.find([key_id])
            if old is None:
                raise rules.not_found(key_id)
            raise field_invalid("key_id", "is of a key that is revoked or expired: make another")
        self._changed(key_id)
        return Revealed(key, key_text(key_id, secret))
