"""Places for so many at a time, and a refusal for who waits too long."""

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import Final

from stepwire.errors import Reason, StepwireError

RETRY_AFTER: Final = timedelta(milliseconds=500)


class Places:
    """As many as there are may be taken at a time; who waits is served in turn.

    Args:
        most: How many there are.
        limit: The setting that says so, for the refusal.
        what: What one of them is, likewise.
        seconds: Longest wait for one.
    """

    def __init__(self, most: int, *, limit: str, what: str, seconds: float) -> None:
        self._free = asyncio.Semaphore(most)
        self._limit = limit
        self._what = what
        self.seconds = seconds

    async def take(self) -> None:
        """Take one, for who calls `release` in the end.

        Raises:
            StepwireError: OVERLOADED, when none became free in time.
        """
        if not self._free.locked():
            await self._free.acquire()  # at once, so no clock is needed
            return
        try:
            async with asyncio.timeout(self.seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise StepwireError(
                Reason.OVERLOADED,
                f"no {self._what} became free in {self.seconds:g} s",
                metadata={"limit": self._limit},
                retry_after=RETRY_AFTER,
            ) from error

    def release(self) -> None:
        """Give one back."""
        self._free.release()

    async def __aenter__(self) -> None:
        await self.take()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
