"""Waiting for something to become true, instead of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")
# A machine may stand still for seconds; who waits in vain only learns it later.
PATIENCE_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.1


@overload
async def eventually(predicate: Callable[[], Awaitable[T]], timeout_seconds: float = ...) -> T: ...


@overload
async def eventually(predicate: Callable[[], T], timeout_seconds: float = ...) -> T: ...


async def eventually(
    predicate: Callable[[], T | Awaitable[T]], timeout_seconds: float = PATIENCE_SECONDS
) -> T:
    """Calls `predicate` until its result is true, and returns that result.

    The predicate may be an ordinary or an async function. An AssertionError that it
    raises counts as "not yet", so that a block of asserts can be waited for.

    Raises:
        AssertionError: It was still not true after `timeout_seconds`. An assertion of
            the predicate's own is raised as it is.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        failure: AssertionError | None = None
        value: T | None = None
        try:
            outcome = predicate()
            value = await outcome if inspect.isawaitable(outcome) else outcome
        except AssertionError as error:
            failure = error
        if failure is None and value:
            return value
        if time.monotonic() >= deadline:
            raise failure or _still_false(value, timeout_seconds)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def eventually_blocking(predicate: Callable[[], T], timeout_seconds: float = PATIENCE_SECONDS) -> T:
    """Does what `eventually` does, for tests and fixtures that run no event loop."""
    deadline = time.monotonic() + timeout_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        failure: AssertionError | None = None
        value: T | None = None
        try:
            value = predicate()
        except AssertionError as error:
            failure = error
        if failure is None and value:
            return value
        if time.monotonic() >= deadline:
            raise failure or _still_false(value, timeout_seconds)
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def _still_false(value: object, timeout_seconds: float) -> AssertionError:
    return AssertionError(f"still {value!r} after {timeout_seconds} s")
