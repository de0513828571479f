"""Places for so many at a time, and a refusal for who waits too long."""

import asyncio
from collections import deque
from datetime import timedelta
from types import TracebackType
from typing import Final

from stepwire.errors import Reason, StepwireError

RETRY_AFTER: Final = timedelta(milliseconds=500)


class Places:
    """As many as there are may be taken at a time; who waits is served in turn.

    Not one of asyncio's semaphores, which take two coroutines where one is free.

    Args:
        most: How many there are.
        limit: The setting that says so, for the refusal.
        what: What one of them is, likewise.
        seconds: Longest wait for one.
    """

    def __init__(self, most: int, *, limit: str, what: str, seconds: float) -> None:
        self._free = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._limit = limit
        self._what = what
        self.seconds = seconds

    @property
    def free(self) -> int:
        """How many may be taken at once."""
        return self._free

    async def take(self) -> None:
        """Take one, for who calls `release` in the end.

        Raises:
            StepwireError: OVERLOADED, when none became free in time.
        """
        if self._free:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self.seconds):
                await place
        except BaseException as error:
            place.cancel()
            if not place.cancelled():
                self.release()  # it was given just when the wait ended
            if not isinstance(error, TimeoutError):
                raise
            raise StepwireError(
                Reason.OVERLOADED,
                f"no {self._what} became free in {self.seconds:g} s",
                metadata={"limit": self._limit},
                retry_after=RETRY_AFTER,
            ) from error

    def release(self) -> None:
        """Give one back: to who has waited longest, if anybody does."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    __aenter__ = take

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
