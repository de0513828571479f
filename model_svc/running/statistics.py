"""What a model has done since it was loaded, in the terms of Triton's ModelStatistics."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

_NANOSECONDS = 1_000_000_000
_MILLISECONDS = 1_000


@dataclass(frozen=True, slots=True)
class Duration:
    """How often something was done, and for how long in all."""

    count: int = 0
    ns: int = 0

    def plus(self, seconds: float) -> "Duration":
        """Returns it with one more that took so long."""
        return Duration(self.count + 1, self.ns + int(seconds * _NANOSECONDS))


NOTHING: Final = Duration()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The tallies of one model at one time.

    Attributes:
        inference_count: Rows, or texts, that were run; not those from the cache.
        execution_count: Runs.
        last_inference_ms: When the last call ended, since the epoch; 0 for never.
        success: Calls that were answered, with their whole time.
        fail: Calls that were not.
        queue: Their waiting.
        compute_input: Tokenizing.
        compute_infer: Runs, counted per call.
        compute_output: Always 0: what is done after a run is part of it.
        cache_hit: Answers from the cache.
        cache_miss: Calls that were not in the cache.
        batches: By their number of rows, runs: compute_input, compute_infer and
            compute_output.
    """

    inference_count: int = 0
    execution_count: int = 0
    last_inference_ms: int = 0
    success: Duration = NOTHING
    fail: Duration = NOTHING
    queue: Duration = NOTHING
    compute_input: Duration = NOTHING
    compute_infer: Duration = NOTHING
    compute_output: Duration = NOTHING
    cache_hit: Duration = NOTHING
    cache_miss: Duration = NOTHING
    batches: Mapping[int, tuple[Duration, Duration, Duration]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a call went, in seconds.

    Attributes:
        queue: Waiting for a run.
        tokenize: Turning texts into tokens; 0 where there are none.
        compute: From the beginning of the call's first run to the end of its last.
    """

    queue: float = 0.0
    tokenize: float = 0.0
    compute: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.queue + self.tokenize + self.compute


NO_TIME: Final = Timings()


class Statistics:
    """Counts what a model does. To be used from one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Starts at 0.

        Args:
            clock: The time, in seconds since the epoch.
        """
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Starts again at 0."""
        self._rows = self._runs = self._last = 0
        self._answered = 0
        self._queue = self._tokenize = self._compute = 0.0
        self._fail = self._hit = self._miss = NOTHING
        self._batches: dict[int, Duration] = {}

    def batch_ran(self, rows: int, seconds: float) -> None:
        """Counts a run."""
        self._rows += rows
        self._runs += 1
        self._batches[rows] = self._batches.get(rows, NOTHING).plus(seconds)

    def call_answered(self, timings: Timings) -> None:
        """Counts a call that was run."""
        self._answered += 1
        self._queue += timings.queue
        self._tokenize += timings.tokenize
        self._compute += timings.compute
        self._ended()

    @contextmanager
    def counting_failure(self) -> Iterator[None]:
        """Counts a call that is not answered, because the block raised or was cancelled."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self._fail = self._fail.plus(time.monotonic() - began)
            self._ended()
            raise

    def cache_hit(self, seconds: float) -> None:
        """Counts a call that the cache answered."""
        self._hit = self._hit.plus(seconds)
        self._ended()

    def cache_missed(self, seconds: float) -> None:
        """Counts a call that was not in the cache, and the time that looking took."""
        self._miss = self._miss.plus(seconds)

    def snapshot(self) -> Snapshot:
        """Returns the tallies as they are now."""
        queue, tokenize, compute = (
            Duration(self._answered, round(seconds * _NANOSECONDS))
            for seconds in (self._queue, self._tokenize, self._compute)
        )
        return Snapshot(
            inference_count=self._rows,
            execution_count=self._runs,
            last_inference_ms=self._last,
            success=Duration(
                self._answered + self._hit.count, queue.ns + tokenize.ns + compute.ns + self._hit.ns
            ),
            fail=self._fail,
            queue=queue,
            compute_input=tokenize,
            compute_infer=compute,
            compute_output=Duration(self._answered),
            cache_hit=self._hit,
            cache_miss=self._miss,
            batches={
                rows: (Duration(tally.count), tally, Duration(tally.count))
                for rows, tally in self._batches.items()
            },
        )

    def _ended(self) -> None:
        self._last = int(self._clock() * _MILLISECONDS)
