"""Kept answers in memory: bounded by bytes, by age, and by what was invalidated."""

from collections.abc import Callable
from typing import Final

from router_svc.cache.codec import encode_kept
from router_svc.cache.invalidations import Invalidations
from router_svc.cache.records import Holding, Invalidation, Kept, ModelShare, Selection
from stepwire.lru import LruCache

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""Of one answer; a longer one is not kept, here or elsewhere."""


class MemoryAnswers:
    """Answers by key.

    Args:
        max_bytes: Of all of them.
        known: What was invalidated.
        ttl_seconds: For how long each is kept.
        clock: Seconds of the wall clock.
    """

    def __init__(
        self,
        max_bytes: int,
        known: Invalidations,
        *,
        ttl_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._answers = LruCache[bytes, Kept](max_bytes)
        self.known = known
        self._ttl_seconds = ttl_seconds
        self._clock = clock

    @property
    def seen(self) -> int:
        """Number of the last invalidation that is known."""
        return self.known.seen

    @property
    def size_bytes(self) -> int:
        """What the answers take."""
        return self._answers.size_bytes

    def get(self, key: bytes, *, max_age_seconds: float) -> Kept | None:
        """Returns an answer that is there and not too old."""
        kept = self._answers.get(key)
        if kept is None:
            return None
        age = self.age(kept)
        if age >= self._ttl_seconds:
            self._answers.drop(key)
        return kept if age < max_age_seconds else None

    def age(self, kept: Kept) -> float:
        """Returns how many seconds ago an answer was given."""
        return self._clock() - kept.kept_at

    def put(self, kept: Kept, *, seen: int) -> bool:
        """Keeps an answer, unless it is too long, or was invalidated while it was made.

        Args:
            kept: The answer.
            seen: What `seen` was when it was begun.

        Returns:
            Whether it may be kept elsewhere too.
        """
        size = len(encode_kept(kept))
        if size > MAX_ANSWER_BYTES or self.known.removes(kept, since=seen):
            return False
        known = self._answers.get(kept.key)
        if known is None or known.kept_at <= kept.kept_at:
            self._answers.put(kept.key, kept, size_bytes=size + len(kept.key))
        return True

    def invalidate(self, invalidation: Invalidation) -> int:
        """Removes answers, here and of those under way; returns how many were here."""
        if not self.known.add(invalidation):
            return 0
        return self._answers.drop_if(invalidation.removes)

    def select(self, selection: Selection) -> Invalidation:
        """Returns the invalidation of `selection` now, where no record numbers them."""
        age = selection.older_than_seconds
        until = None if age is None else self._clock() - age
        return Invalidation(self.seen + 1, selection, until)

    def count(self, invalidation: Invalidation) -> int:
        """Counts the answers that `invalidate` would remove."""
        return sum(map(invalidation.removes, self._answers.values()))

    def holding(self, tenant_id: str) -> Holding:
        """Returns what is kept here for a tenant."""
        shares: dict[tuple[str, str], ModelShare] = {}
        oldest = None
        for kept in self._answers.values():
            if kept.tenant_id != tenant_id:
                continue
            named = (kept.model, kept.model_version)
            share = shares.get(named, ModelShare(*named, answers=0, size_bytes=0))
            size = share.size_bytes + len(encode_kept(kept))
            shares[named] = ModelShare(*named, answers=share.answers + 1, size_bytes=size)
            oldest = kept.kept_at if oldest is None else min(oldest, kept.kept_at)
        ranked = sorted(shares.values(), key=lambda share: -share.answers)
        return Holding(tuple(ranked), oldest)
