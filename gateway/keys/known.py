"""Keys in memory: looked up once, and again when what is known of them is old."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.keys.ports import KeyStore
from gateway.keys.records import Key
from stepwire.batcher import Batcher
from stepwire.errors import Reason, StepwireError
from stepwire.lru import LruCache
from stepwire.settings import MEBIBYTE

KNOWN_BYTES: Final = 16 * MEBIBYTE
# Apart from the others, so that made-up ids push no key out.
UNKNOWN_BYTES: Final = MEBIBYTE
_KEY_BYTES: Final = 1024
_UNKNOWN_KEY_BYTES: Final = 64
# After the record was found away, for how long nobody waits for it.
AWAY_SECONDS: Final = 1.0
# Of the time for which a key is believed: when it is asked about anew, if it is used.
REFRESH_AT: Final = 0.5

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Freshness:
    """For how long what is known of a key is believed, in seconds.

    Attributes:
        cache_seconds: Without asking again.
        grace_seconds: While the record is away.
        lookup_seconds: How long a call waits for the record.
    """

    cache_seconds: float
    grace_seconds: float
    lookup_seconds: float


@dataclass(frozen=True, slots=True)
class Known:
    """What the record said of an id: its key, or None; and when, on the cache's clock."""

    key: Key | None
    asked_at: float


class KnownKeys:
    """The keys that calls have brought lately.

    Whatever it gives, the record has said within `cache_seconds`, or within `grace_seconds`
    if it is away. Lookups of concurrent calls share a statement.

    Args:
        store: The record.
        freshness: For how long it is believed.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        store: KeyStore,
        freshness: Freshness,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._freshness = freshness
        self._clock = clock
        self._known: LruCache[str, Known] = LruCache(KNOWN_BYTES)
        self._unknown: LruCache[str, Known] = LruCache(UNKNOWN_BYTES)
        self._lookups: Batcher[str, Known] = Batcher("keys", self._read)
        self._store = store
        self._away_until = 0.0
        self._changes = 0
        self._refreshing: set[str] = set()

    def recall(self, key_id: str) -> Known | None:
        """Returns what is known of an id and may be believed as it is.

        When it soon may no longer, the record is asked meanwhile: calls of a key in use wait
        for it once, and not every time that is over.
        """
        known = self._known.get(key_id) or self._unknown.get(key_id)
        if known is None or (age := self.age(known)) >= self._freshness.cache_seconds:
            return None
        if known.key is not None and age >= self._freshness.cache_seconds * REFRESH_AT:
            self._refresh(key_id)
        return known

    def age(self, known: Known) -> float:
        """Returns how long ago the record said so, in seconds."""
        return self._clock() - known.asked_at

    async def look_up(self, key_id: str) -> Known:
        """Asks the record; while it is away, returns what it said last.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE, when it is away and has said nothing of the
                id within the time of grace.
        """
        if self._clock() < self._away_until:
            return self._within_grace(key_id)
        try:
            return await asyncio.wait_for(
                asyncio.shield(self._lookups.put(key_id)), self._freshness.lookup_seconds
            )
        except Exception as error:  # noqa: BLE001  (whatever keeps the record from answering)
            self._found_away(error)
            return self._within_grace(key_id)

    def forget(self, key_id: str) -> None:
        """Says that a key has changed: what is known of it is no longer believed."""
        self._changes += 1
        self._known.drop(key_id)
        self._unknown.drop(key_id)

    def _refresh(self, key_id: str) -> None:
        if key_id in self._refreshing or self._clock() < self._away_until:
            return
        with contextlib.suppress(StepwireError):  # too many wait: there is time yet
            lookup = self._lookups.put(key_id)
            self._refreshing.add(key_id)
            lookup.add_done_callback(partial(self._refreshed, key_id))

    def _refreshed(self, key_id: str, lookup: "asyncio.Future[Known]") -> None:
        self._refreshing.discard(key_id)
        if not lookup.cancelled() and (error := lookup.exception()) is not None:
            self._found_away(error)

    def _found_away(self, error: BaseException) -> None:
        self._away_until = self._clock() + AWAY_SECONDS
        _logger.warning("keys cannot be looked up", extra={"cause": repr(error)})

    def _within_grace(self, key_id: str) -> Known:
        known = self._known.get(key_id)
        if known is None or self.age(known) >= self._freshness.grace_seconds:
            raise StepwireError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "Postgres does not tell of the key",
                metadata={"dependency": "postgres"},
            )
        return known

    async def _read(self, key_ids: Sequence[str]) -> Sequence[Known]:
        # Before the question, since the answer is no younger.
        asked_at, changes = self._clock(), self._changes
        found = [Known(key, asked_at) for key in await self._store.find(key_ids)]
        if changes != self._changes:
            # One of them may have changed since it was read: it is to be read again.
            return found
        for key_id, known in zip(key_ids, found, strict=True):
            if known.key is None:
                self._known.drop(key_id)
                self._unknown.put(key_id, known, size_bytes=_UNKNOWN_KEY_BYTES)
            else:
                self._known.put(key_id, known, size_bytes=_KEY_BYTES)
        return found
