"""What the caches need from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from router_svc.cache.records import (
    Embedded,
    Holding,
    Invalidation,
    Kept,
    Marked,
    Near,
    Selection,
)


@dataclass(frozen=True, slots=True)
class Keeping:
    """An answer to be kept.

    Attributes:
        kept: The answer.
        seen: The last invalidation that was known when it was begun; one after it may be
            about this answer.
        meaning: What its question means; None when it is not to be found by that.
    """

    kept: Kept
    seen: int
    meaning: Embedded | None = None


class AnswerStore(Protocol):
    """Keeps answers for all instances. May be away: then it raises StepwireError."""

    async def find(self, keys: Sequence[bytes], *, tenant_id: str) -> Sequence[Kept]:
        """Returns the answers of these keys that have not expired."""
        ...

    async def keep(self, answers: Sequence[Keeping], *, ttl_seconds: float) -> None:
        """Keeps answers, each key once, but for those invalidated since they were begun."""
        ...

    async def invalidate(self, selection: Selection) -> int:
        """Removes answers, and lets all instances know; returns how many there were."""
        ...

    async def count(self, selection: Selection) -> int:
        """Counts the answers that `invalidate` would remove."""
        ...

    async def holding(self, tenant_id: str) -> Holding:
        """Returns what is kept for a tenant."""
        ...

    async def invalidations(self, *, after: int) -> Sequence[Invalidation]:
        """Returns what was invalidated after that number, in order."""
        ...

    async def newest_invalidations(self, most: int) -> Sequence[Invalidation]:
        """Returns the last ones, in order."""
        ...

    async def purge(self, *, most: int, ttl_seconds: float, limit: int) -> int:
        """Removes what has expired, and the oldest beyond `most`; returns how many went."""
        ...


class PassingStore(Protocol):
    """Keeps answers for all instances, and may lose them. May be away: ConnectionError then."""

    async def find(self, keys: Sequence[bytes]) -> Sequence[Marked]:
        """Returns the answers of these keys that are there, of whatever tenants."""
        ...

    async def keep(self, answers: Sequence[Marked], *, ttl_seconds: float) -> None:
        """Keeps answers until they are that old."""
        ...


class Neighbours(Protocol):
    """Finds questions of the same meaning. May be away: then it raises ConnectionError."""

    async def embed(self, text: str) -> Embedded | None:
        """Returns what `text` means; None when the model cannot read all of it."""
        ...

    async def nearest(
        self, ask: Embedded, *, partition: bytes, least: float, limit: int
    ) -> Sequence[Near]:
        """Returns the nearest questions of a partition, best first, of the current tenant."""
        ...

    async def add(self, questions: Sequence[tuple[Kept, Embedded]], *, ttl_seconds: float) -> None:
        """Makes kept answers' questions ones to be found; all of one tenant and space."""
        ...
