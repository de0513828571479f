"""Group commit: what waits while the last batch is under way goes together.

A lone item is flushed at once; under load, batches grow by themselves to what arrived
during one flush. Two things can make them fewer and larger: items that nobody waits for
may linger until one comes that is wanted at once, and where many come in a time, a batcher
may rest between batches.
"""

import asyncio
import contextvars
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from stepwire.errors import Reason, StepwireError

T = TypeVar("T")
R = TypeVar("R")

# Over which time the rate of items is taken, about.
_RATE_SECONDS = 0.1

Flush = Callable[[Sequence[T]], Awaitable[Sequence[R | BaseException]]]


@dataclass(frozen=True, slots=True)
class Linger(Generic[T]):
    """How long items may wait for company.

    Attributes:
        seconds: The longest that an item waits.
        is_urgent: Whether an item is not to wait, nor those before it.
    """

    seconds: float
    is_urgent: Callable[[T], bool]


@dataclass(frozen=True, slots=True)
class Rest:
    """How a batcher holds back under load.

    Attributes:
        seconds: The shortest time from the beginning of one batch to that of the next.
        above_per_second: How many items must have come per second, for it to rest. Callers
            that each wait for their item are never held below that.
    """

    seconds: float
    above_per_second: float


class Batcher(Generic[T, R]):
    """Collects items of concurrent callers and flushes them in batches, in order.

    `flush` gets the items of a batch and returns one result per item; a result that is
    an exception is raised to that item's caller. If `flush` itself raises, every caller
    of the batch gets that exception. With a `linger`, items that are not urgent wait;
    with a `rest`, all do that come soon after a batch while many come.
    """

    def __init__(
        self,
        name: str,
        flush: Flush[T, R],
        *,
        max_batch: int = 512,
        max_waiting: int = 50_000,
        linger: Linger[T] | None = None,
        rest: Rest | None = None,
    ) -> None:
        self._name = name
        self._flush = flush
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._linger = linger
        self._rest = rest
        self._hurry = asyncio.Event()
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        # On the event loop's clock.
        self._rests_until = self._counted_at = 0.0
        self._per_second = 0.0

    @property
    def waiting(self) -> int:
        """Number of items that wait for a batch."""
        return len(self._waiting)

    async def submit(self, item: T) -> R:
        """Have `item` flushed; return its result.

        The item is flushed even if the caller is cancelled meanwhile.

        Raises:
            StepwireError: OVERLOADED, when `max_waiting` items wait already.
        """
        return await self.put(item)

    def put(self, item: T) -> "asyncio.Future[R]":
        """Like `submit`, but return the future of the result."""
        if len(self._waiting) >= self._max_waiting:
            raise StepwireError(
                Reason.OVERLOADED,
                f"{self._name}: {self._max_waiting} items wait already",
                metadata={"limit": str(self._max_waiting)},
            )
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._linger is not None and self._linger.is_urgent(item):
            self._hurry.set()
        if self._worker is None:
            # A batch is no part of the call that happened to begin it.
            self._worker = asyncio.create_task(
                self._run(), name=f"batcher:{self._name}", context=contextvars.Context()
            )
        return future

    async def drain(self) -> None:
        """Wait until everything that was put has been flushed."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if self._linger is not None:
                    await self._wait_for_company(self._linger.seconds)
                if self._rests_until > loop.time():
                    await asyncio.sleep(self._rests_until - loop.time())
                count = min(len(self._waiting), self._max_batch)
                if self._rest is not None and self._count(count) > self._rest.above_per_second:
                    self._rests_until = self._counted_at + self._rest.seconds
                await self._flush_batch([self._waiting.popleft() for _ in range(count)])
        finally:
            self._worker = None
            # Not empty only if the loop is being stopped.
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()

    def _count(self, items: int) -> float:
        """Count a batch; return how many items came per second lately."""
        now = asyncio.get_running_loop().time()
        kept = math.exp((self._counted_at - now) / _RATE_SECONDS)
        self._per_second = self._per_second * kept + items / _RATE_SECONDS
        self._counted_at = now
        return self._per_second

    async def _wait_for_company(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        self._hurry.clear()

    async def _flush_batch(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
            assert len(results) == len(batch), f"{self._name}: not one result per item"
        except Exception as error:  # noqa: BLE001 - handed to every caller
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        except BaseException:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
