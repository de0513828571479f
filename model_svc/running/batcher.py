"""Runs what waits for a model in batches, on the slots of its device.

There is no timer unless one is asked for: a lone item runs at once, and under load
batches are made of what waited while earlier ones ran. A batch is put together at the
moment at which a slot is the model's, of what waits then.
"""

import asyncio
import contextvars
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from opentelemetry.trace import Span, get_current_span

from model_svc.ports import BatchObserver
from model_svc.running.batch_span import BatchSpan
from model_svc.running.execute import Execute, Executed, RefusedError
from model_svc.running.line import Call, Item, Line
from model_svc.running.place import Place
from model_svc.running.plan import RunPlan
from model_svc.running.slots import Share
from stepwire.call import current_call
from stepwire.errors import Reason, StepwireError

_RETRY_AFTER: Final = timedelta(seconds=1)

# How long an item waits for company while another batch runs: those who just got their
# answers are about to ask again, and would come one too late.
_COMPANY_SECONDS: Final = 0.0005


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    Attributes:
        results: One per piece.
        queue_seconds: From its coming to the beginning of its first batch.
        compute_seconds: From then to the end of its last.
        batch_items: Items of the largest batch that it was in.
        device: Where the last of its batches ran.
    """

    results: Sequence[Any]
    queue_seconds: float
    compute_seconds: float
    batch_items: int
    device: str


class Batcher:
    """What waits for one model. To be used from one event loop."""

    def __init__(
        self,
        name: str,
        execute: Execute,
        *,
        place: Callable[[], Place],
        plan: RunPlan,
        max_waiting: int,
        clock: Callable[[], float],
        observer: BatchObserver,
    ) -> None:
        """Starts with nothing waiting.

        Args:
            name: The model's, for errors and spans.
            execute: Runs one batch.
            place: Gives the slots and the budget of the device that it runs on now: the same
                object for as long as it stays there.
            plan: The model's priorities, delays and share of the device.
            max_waiting: What may wait, in tokens or calls.
            clock: The time in seconds, on the clock of deadlines.
            observer: Is told about every batch.
        """
        self._name = name
        self._execute = execute
        self._plan = plan
        self._max_waiting = max_waiting
        self._clock = clock
        self._observer = observer
        self._line = Line(max(1, plan.priority_levels), clock)
        self._place_now = place
        self._place, self._share = self._join()
        self._running: set[asyncio.Task[None]] = set()
        self._calls: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._waited = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """Tokens, or rows, that wait for a batch."""
        return self._line.size

    async def run(
        self,
        pieces: Sequence[tuple[Any, int, Hashable]],
        *,
        priority: int = 0,
        timeout_seconds: float | None = None,
    ) -> Outcome:
        """Returns the results of the pieces, in their order.

        A caller that is cancelled takes its waiting pieces with it; so does one whose
        deadline passes.

        Args:
            pieces: Payload, size and group of each; at least one.
            priority: From 1, the highest; 0 for the model's default.
            timeout_seconds: How long to wait for a run at most; None for the default.

        Raises:
            StepwireError: OVERLOADED, when too much waits already; DEADLINE_EXCEEDED, when
                the deadline passed before the last piece's turn; DEPENDENCY_UNAVAILABLE,
                when the model is being unloaded; MODEL_INPUT_INVALID, for a priority that
                it does not have, and for more than may wait at any time.
            Exception: What `execute` raised for a batch with one of the pieces.
        """
        self._admit(self._place.budget.load([size for _, size, _ in pieces]))
        now = self._clock()
        call = Call(
            pieces,
            level=self._level(priority),
            since=now,
            deadline=self._deadline(now, timeout_seconds),
            span=_recorded(get_current_span()),
        )
        self._line.add(call)
        self._calls.add(call)
        self._wake()
        try:
            await call.future
        finally:
            self._calls.discard(call)
            self._line.withdraw(call)
        started = now if call.started is None else call.started
        return Outcome(
            call.results,
            queue_seconds=started - now,
            compute_seconds=self._clock() - started,
            batch_items=call.largest_batch,
            device=call.device,
        )

    async def close(self) -> None:
        """Takes no more calls, and waits for those that it has."""
        self._closed = True
        while self._calls or self._running:
            await asyncio.wait([*self._running, *(call.future for call in self._calls)])
        if self._timer is not None:
            self._timer.cancel()
        self._share.leave()

    def _admit(self, load: int) -> None:
        if self._closed:
            raise StepwireError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"model {self._name} is being unloaded",
                metadata={"dependency": self._name},
            )
        limit = self._max_waiting
        if load > limit:
            # It would never be taken: trying again helps nobody.
            raise StepwireError(
                Reason.MODEL_INPUT_INVALID,
                f"model {self._name}: the call has {load} tokens, at most {limit} may wait: "
                "send it in parts",
                metadata={"limit": str(limit), "model": self._name},
            )
        if self._place.budget.waiting(self._line) + load > limit:
            raise StepwireError(
                Reason.OVERLOADED,
                f"model {self._name}: at most {limit} may wait",
                metadata={"limit": str(limit), "model": self._name},
                retry_after=_RETRY_AFTER,
            )

    def _level(self, priority: int) -> int:
        levels = self._plan.priority_levels
        if not levels:
            return 0
        wanted = priority or self._plan.default_priority or (levels + 1) // 2
        if not 1 <= wanted <= levels:
            raise StepwireError(
                Reason.MODEL_INPUT_INVALID,
                f"model {self._name}: priority is {wanted}, must be from 1 to {levels}",
                metadata={"model": self._name},
            )
        return wanted - 1

    def _deadline(self, now: float, timeout_seconds: float | None) -> float | None:
        wanted = timeout_seconds or self._plan.default_timeout_seconds
        deadline = current_call().deadline
        if not wanted:
            return deadline
        return now + wanted if deadline is None else min(deadline, now + wanted)

    def _start(self, alone: bool) -> bool:  # noqa: FBT001 - as `Start` says
        if self._follow() or self._lingers(alone=alone):
            return False
        batch = self._place.budget.next_batch(self._line)
        if not batch:
            return False
        # A batch is no part of the call that happened to begin it.
        task = asyncio.create_task(
            self._run(batch, self._place, self._share, alone=alone),
            name="model batch",
            context=contextvars.Context(),
        )
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    def _lingers(self, *, alone: bool) -> bool:
        """Whether what waits is to wait for more, for now."""
        full = self._place.budget.full
        # Requests that never run together gain nothing by waiting.
        company = _COMPANY_SECONDS if full > 1 and not alone else 0
        delay = self._plan.max_delay_seconds or company
        if not delay or self._waited or self._line.size >= full:
            self._waited = False
            return False
        oldest = self._line.oldest()
        if oldest is None or (left := oldest + delay - self._clock()) <= 0:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._lingered)
        return True

    def _lingered(self) -> None:
        self._timer = None
        self._waited = True
        self._wake()

    def _wake(self) -> None:
        """Says that something waits, to the device that the model is on now."""
        if not self._follow():
            self._share.wake()

    def _join(self) -> tuple[Place, Share]:
        place, plan = self._place_now(), self._plan
        return place, place.pool.join(self._start, weight=plan.weight, limit=plan.instances)

    def _follow(self) -> bool:
        """Goes over to the device that the model has moved to; returns whether it has."""
        if self._place_now() is self._place:
            return False
        self._share.leave()
        self._place, self._share = self._join()
        self._share.wake()
        return True

    async def _run(self, batch: Sequence[Item], place: Place, share: Share, *, alone: bool) -> None:
        started = self._clock()
        for item in batch:
            call = item.call
            if call.started is None:
                call.started = started
            call.largest_batch = max(call.largest_batch, len(batch))
        span = BatchSpan.begin(self._name, batch)
        results, device = await self._results([item.payload for item in batch], alone=alone)
        seconds = self._clock() - started
        # First the slot, so that the next batch begins before the answers are made.
        self._follow()
        share.ended(seconds)
        errors = [result for result in results if isinstance(result, Exception)]
        if span is not None:
            span.end(errors)
        self._observer.batch_ran(
            items=len(batch),
            size=sum(item.size for item in batch),
            padded_size=place.budget.padded(batch),
            full=place.budget.full,
            wait_seconds=started - min(item.call.since for item in batch),
            seconds=seconds,
            device=device or place.device,
            failed=bool(errors),
        )
        for item, result in zip(batch, results, strict=True):
            item.call.device = device
            if isinstance(result, Exception):
                item.call.fail(result)
            else:
                item.call.deliver(item, result)

    async def _results(self, payloads: Sequence[Any], *, alone: bool) -> Executed:
        """The result of each payload, or the exception that it ended with."""
        try:
            return await self._execute(payloads, alone=alone)
        except RefusedError as error:
            if len(payloads) == 1:
                return Executed([error], "")
            each = [await self._results([payload], alone=alone) for payload in payloads]
            device = next((device for _, device in each if device), "")
            return Executed([result for (result,), _ in each], device)
        except Exception as error:  # noqa: BLE001 - raised to the batch's callers
            return Executed([error] * len(payloads), "")


def _recorded(span: Span) -> Span | None:
    return span if span.is_recording() else None
