"""Runs a second try beside one that is slow; the first answer wins, the other is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

# Hedges saved up while calls were quick; more at once would double the load on a fleet
# that has become slow as a whole.
MOST_SAVED = 10.0


class HedgeBudget:
    """Lets a share of all calls be hedged.

    Args:
        share: Of the calls, from 0 to 1; 0 lets none.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = 0.0

    @property
    def enabled(self) -> bool:
        """Whether any call may be hedged."""
        return self._share > 0

    def called(self) -> None:
        """Counts a call."""
        self._saved = min(MOST_SAVED, self._saved + self._share)

    def spend(self) -> bool:
        """Takes the right to one hedge, and returns whether there was one."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


async def first_answer(
    first: Awaitable[T], second: Callable[[], Awaitable[T] | None], *, after_seconds: float
) -> T:
    """Returns what the first of two calls brings.

    Args:
        first: The call that is made at once.
        second: Makes the other one; None when there is none after all.
        after_seconds: When the second one is made, unless the first has ended.

    Raises:
        Exception: What the first raised, when neither brought anything.
    """
    tasks = [asyncio.ensure_future(first)]
    try:
        await asyncio.wait(tasks, timeout=after_seconds)
        if not tasks[0].done() and (other := second()) is not None:
            tasks.append(asyncio.ensure_future(other))
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is None:
                    return task.result()
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        # Losers give back what they hold before the winner's answer is passed on.
        await asyncio.gather(*tasks, return_exceptions=True)
