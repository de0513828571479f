"""Kept answers in memory: bounded by bytes, by age, and by what was invalidated."""

from collections import deque
from collections.abc import Callable
from typing import Final

from router_svc.cache.codec import encode_kept
from router_svc.cache.records import Holding, Invalidation, Kept, ModelShare, Selection
from stepwire.lru import LruCache

REMEMBERED: Final = 1_000
"""Invalidations, for answers that were begun before; an answer begun before the oldest of
them is not kept."""
MAX_ANSWER_BYTES: Final = 1024 * 1024
"""Of one answer; a longer one is not kept, here or elsewhere."""


class MemoryAnswers:
    """Answers by key.

    Args:
        max_bytes: Of all of them.
        ttl_seconds: For how long each is kept.
        clock: Seconds of the wall clock.
    """

    def __init__(self, max_bytes: int, *, ttl_seconds: float, clock: Callable[[], float]) -> None:
        self._answers = LruCache[bytes, Kept](max_bytes)
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._invalidations: deque[Invalidation] = deque(maxlen=REMEMBERED)
        self.seen = 0
        """Number of the last invalidation that is known."""

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
        if size > MAX_ANSWER_BYTES or self._is_gone(kept, seen):
            return False
        known = self._answers.get(kept.key)
        if known is None or known.kept_at <= kept.kept_at:
            self._answers.put(kept.key, kept, size_bytes=size + len(kept.key))
        return True

    def invalidate(self, invalidation: Invalidation) -> int:
        """Removes answers, here and of those under way; returns how many were here."""
        if invalidation.number <= self.seen:
            return 0
        self.seen = invalidation.number
        self._invalidations.append(invalidation)
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

    def _is_gone(self, kept: Kept, seen: int) -> bool:
        if seen == self.seen:
            return False
        known = self._invalidations
        if len(known) == known.maxlen and known[0].number > seen + 1:
            return True
        return any(each.removes(kept) for each in known if each.number > seen)
