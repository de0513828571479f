"""The compute slots of a device, shared fairly by the models on it.

A slot is what one batch needs to run: a core of a CPU, or a stream of a GPU. When one is
free it goes to the model that has used the least time for its weight, among those that
have work waiting and may run one more batch. Batches that run count as if they took what
the model's batches took so far. A model that had nothing to do saves no time up.
"""

from collections.abc import Callable
from typing import Final

# The share of the newest batch in the mean time of a model's batches.
_NEWEST: Final = 0.2

# Begins one batch; the argument says whether it runs alone. False: there is none to begin.
Start = Callable[[bool], bool]


class Share:
    """One model's part in a pool."""

    __slots__ = (
        "_leaving",
        "_limit",
        "_mean_seconds",
        "_pool",
        "_start",
        "_used",
        "_weight",
        "running",
        "wanting",
    )

    def __init__(self, pool: "ComputePool", start: Start, *, weight: float, limit: int) -> None:
        self._pool = pool
        self._start = start
        self._weight = weight
        self._limit = limit
        self._mean_seconds = 0.0
        self._used = 0.0
        self._leaving = False
        self.running = 0
        self.wanting = False

    @property
    def claimed(self) -> float:
        """Seconds used and in use, over the weight."""
        return self._used + self.running * self._mean_seconds / self._weight

    @property
    def able(self) -> bool:
        """Whether it would take a slot now."""
        return self.wanting and self.running < self._limit and not self._leaving

    def wake(self) -> None:
        """Says that there is work; slots that are free are given at once."""
        if not self.wanting:
            self.wanting = True
            self._used += max(0.0, self._pool.now - self.claimed)
        self._pool.give()

    def begin(self, *, alone: bool) -> None:
        """Takes a slot, if there is a batch for it."""
        self.running += 1
        if not self._start(alone):
            self.wanting = False
            self._give_back()

    def ended(self, seconds: float) -> None:
        """Gives a slot back after a batch that took so long."""
        self._used += seconds / self._weight
        self._mean_seconds += (seconds - self._mean_seconds) * _NEWEST
        self._give_back()
        self._pool.give()

    def leave(self) -> None:
        """Takes no more slots; those that it has stay taken until their batches end."""
        self._leaving = True
        if not self.running:
            self._pool.remove(self)

    def _give_back(self) -> None:
        self.running -= 1
        if self._leaving and not self.running:
            self._pool.remove(self)


class ComputePool:
    """The slots of one device. To be used from one event loop.

    Attributes:
        slots: How many there are.
        now: What the model had claimed that got the last slot.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.now = 0.0
        self._shares: list[Share] = []
        self._giving = False

    @property
    def is_empty(self) -> bool:
        """Whether no model is on it."""
        return not self._shares

    def join(self, start: Start, *, weight: float = 1.0, limit: int = 0) -> Share:
        """Adds a model.

        Args:
            start: Is called whenever a slot is the model's.
            weight: Its share of the time beside that of others.
            limit: Slots that it may have at a time; 0 for all.
        """
        share = Share(self, start, weight=weight, limit=limit or self.slots)
        self._shares.append(share)
        return share

    def remove(self, share: Share) -> None:
        """Takes a model out."""
        self._shares.remove(share)

    def give(self) -> None:
        """Gives the free slots to those who wait and have claimed the least."""
        if self._giving:
            return
        self._giving = True
        try:
            while (running := sum(share.running for share in self._shares)) < self.slots:
                able = [share for share in self._shares if share.able]
                if not able:
                    return
                share = min(able, key=lambda share: share.claimed)
                self.now = max(self.now, share.claimed)
                share.begin(alone=running == 0)
        finally:
            self._giving = False
