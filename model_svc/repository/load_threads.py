"""Threads for what may hang: a disk that stands still, a graph that takes for ever to prepare.

No thread can be ended from outside. One that takes too long is left behind: it is counted
until it ends, what it then brings is let go of, and it keeps nobody waiting, not even the
end of the process.
"""

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar

from model_svc.sessions.errors import ModelLoadError

_logger = logging.getLogger(__name__)

T = TypeVar("T")

# For one model at a time: calls that give up before one hangs could begin any number.
_MOST_THREADS: Final = 8


class _Job(Generic[T]):
    """What one thread does, and whether anybody waits for it."""

    def __init__(self, name: str, doing: str, began: float, late: Callable[[T], None]) -> None:
        self.name = name
        self.doing = doing
        self.began = began
        self.future: Future[T] = Future()
        # From now on it cannot be cancelled, but only left behind.
        self.future.set_running_or_notify_cancel()
        self._late = late
        self._ended = False
        self._left_behind = False

    def work(self, context: contextvars.Context, function: Callable[[], T]) -> None:
        """Does it, in the calling thread."""
        try:
            result = context.run(function)
        except BaseException as error:  # noqa: BLE001 - raised to whoever waits
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._left_behind = True
        self._let_go()

    def ended(self) -> None:
        """The thread has ended."""
        self._ended = True
        self._let_go()

    def _let_go(self) -> None:
        if self._ended and self._left_behind and not self.future.exception():
            self._late(self.future.result())


class LoadThreads:
    """Begins a thread for each thing to be done. To be used from one event loop."""

    def __init__(self, timeout_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins none yet.

        Args:
            timeout_seconds: How long one may take.
            clock: The time in seconds.
        """
        self.timeout_seconds = timeout_seconds
        self._clock = clock
        self._jobs: set[_Job[Any]] = set()

    @property
    def hanging(self) -> Mapping[str, int]:
        """How many threads take too long, by the name of the model."""
        return Counter(job.name for job in self._jobs if self._hangs(job))

    async def run(
        self,
        name: str,
        doing: str,
        function: Callable[[], T],
        *,
        late: Callable[[T], None] = lambda _: None,
    ) -> T:
        """Returns what `function` returns, called in a thread of its own.

        Args:
            name: The model that it is for; nothing new is begun for one of which a thread
                hangs.
            doing: What it does, for errors.
            function: What is called.
            late: Is given what it returned if nobody waits for that any more.

        Raises:
            ModelLoadError: It takes too long, or an earlier one for the same model still does.
            Exception: What it raises.
        """
        jobs = [job for job in self._jobs if job.name == name]
        if len(jobs) >= _MOST_THREADS or any(map(self._hangs, jobs)):
            raise ModelLoadError(f"{doing} was not begun: what was begun before still hangs")
        job = _Job[T](name, doing, self._clock(), late)
        self._begin(job, function)
        limit = asyncio.timeout(self.timeout_seconds)
        try:
            async with limit:
                return await asyncio.wrap_future(job.future)
        except BaseException:
            job.leave()
            if not limit.expired():
                raise
            _logger.error(  # noqa: TRY400 - where it hangs is not here
                "%s hangs; its thread is left behind", doing, extra={"model": name}
            )
            seconds = self.timeout_seconds
            raise ModelLoadError(f"{doing} took longer than {seconds:g} seconds") from None

    def _begin(self, job: _Job[T], function: Callable[[], T]) -> None:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()

        def run() -> None:
            job.work(context, function)
            # If the loop has ended before the thread, the process will.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._ended, job)

        self._jobs.add(job)
        # Threads of an executor are waited for when the process ends; this one is not.
        threading.Thread(target=run, name=f"load {job.name}", daemon=True).start()

    def _hangs(self, job: _Job[Any]) -> bool:
        return self._clock() - job.began >= self.timeout_seconds

    def _ended(self, job: _Job[Any]) -> None:
        if self._hangs(job):
            _logger.warning("%s has ended after all", job.doing, extra={"model": job.name})
        self._jobs.discard(job)
        job.ended()
