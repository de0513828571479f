"""Those who ask for tasks: they send, watch, signal, pause, cancel, retry, and never give up.

What they were told is kept for the oracles.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from stepwire.api.executor.v1.task_pb2 import Task, TaskEvent, TaskEventType, TaskState
from stepwire.errors import Reason, StepwireError
from stepwire.sdk.client import Client
from stepwire.sdk.requests import NewTask
from stepwire.testing.poll import eventually
from tests.chaos.history import Event, Watch
from tests.chaos.intents import CANCELLED, FAILED, SIGNAL, SUCCEEDED, TaskIntent

T = TypeVar("T")
Errors = Counter[tuple[Reason, str]]
PAUSE_SECONDS = 0.1
LABEL = "chaos"
RETRIES = 20
SIGNAL_WITHIN_SECONDS = 0.5
PAUSED_SECONDS = 0.3
# Longer than any run.
PATIENCE_SECONDS = 600.0


@dataclass
class Dealings:
    """What one intent came to, from outside."""

    intent: TaskIntent
    answers: list[str] = field(default_factory=list)
    unanswered: int = 0
    refusals: list[str] = field(default_factory=list)
    cancelled: int | None = None
    watches: list[Watch] = field(default_factory=list)


class Customer:
    """Carries intents out against any of several executors.

    Attributes:
        errors: how often a call met an error by which it is made again, by reason and text.
    """

    def __init__(self, clients: Sequence[Client], rng: random.Random) -> None:
        self.errors: Errors = Counter()
        self._clients = clients
        self._rng = rng

    async def deal(self, dealings: Dealings) -> None:
        """See one intent through to the end of its task."""
        try:
            await self._deal(dealings)
        except* StepwireError as refused:
            dealings.refusals += [str(error) for error in refused.exceptions]

    async def _deal(self, dealings: Dealings) -> None:
        intent = dealings.intent
        dealings.unanswered = intent.senders
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(self._send(dealings)) for _ in range(intent.senders)]
            first = await next(asyncio.as_completed(senders))
            if intent.watched:
                group.create_task(self._watch(dealings, first))
            if intent.signal is not None:
                for _ in range(intent.senders):
                    group.create_task(self._signal(dealings, first))
            if intent.pause_after is not None:
                group.create_task(self._pause(dealings, first))
            if intent.cancel_after is not None:
                await asyncio.sleep(intent.cancel_after)
                await self._cancel(dealings, first)
            await self._see_through(dealings, first)
            await asyncio.wait(senders)
            # Whoever sends it once more is told of the same task.
            dealings.unanswered += 1
            await self._send(dealings)

    async def _send(self, dealings: Dealings) -> str:
        intent = dealings.intent
        new = NewTask(intent.graph(), intent.input, intent.request_id, {LABEL: intent.request_id})

        async def send() -> str:
            client = self._client()
            if self._rng.random() < 0.3:
                (task_id,) = await client.batch_create([new])
                return task_id
            task = await client.create(
                new.graph, new.input, request_id=new.request_id, labels=new.labels
            )
            return task.task_id

        task_id = await persist(send, self.errors)
        dealings.answers.append(task_id)
        dealings.unanswered -= 1
        return task_id

    async def _see_through(self, dealings: Dealings, task_id: str) -> Task:
        for _ in range(RETRIES):
            task = await persist(lambda: self._client().wait(task_id), self.errors)
            if not (dealings.intent.retried and state_of(task) == FAILED):
                break
            await self._retry(task_id)
        return task

    async def _retry(self, task_id: str) -> None:
        # A conflict: the first answer was lost, and the task goes on already.
        await self._unless_conflict(lambda: self._client().retry(task_id))

    async def _signal(self, dealings: Dealings, task_id: str) -> None:
        """Send its signal, before the step that waits for it is reached, or after."""
        intent = dealings.intent
        await asyncio.sleep(self._rng.uniform(0, SIGNAL_WITHIN_SECONDS))

        async def signal() -> Task:
            request_id = f"signal-{intent.number}"
            return await self._client().signal(
                task_id, SIGNAL, intent.signal, request_id=request_id
            )

        async def told() -> bool:
            if await self._unless_conflict(signal):
                return True
            # One that has failed can be signalled again when it is retried.
            task = await persist(lambda: self._client().get(task_id), self.errors)
            return not (intent.retried and state_of(task) not in {SUCCEEDED, CANCELLED})

        await eventually(told, PATIENCE_SECONDS)

    async def _pause(self, dealings: Dealings, task_id: str) -> None:
        assert dealings.intent.pause_after is not None
        await asyncio.sleep(dealings.intent.pause_after)
        await self._unless_conflict(lambda: self._client().pause(task_id))
        await asyncio.sleep(PAUSED_SECONDS)
        await self._unless_conflict(lambda: self._client().resume(task_id))

    async def _unless_conflict(self, call: Callable[[], Awaitable[Task]]) -> Task | None:
        """Make a call that the task's state may forbid; None if it does."""

        async def attempt() -> Task | None:
            try:
                return await call()
            except StepwireError as error:
                if error.reason != Reason.TASK_STATE_CONFLICT:
                    raise
                return None

        return await persist(attempt, self.errors)

    async def _cancel(self, dealings: Dealings, task_id: str) -> None:
        task = await self._unless_conflict(lambda: self._client().cancel(task_id))
        if task is not None:
            dealings.cancelled = task.last_cursor

    async def _watch(self, dealings: Dealings, task_id: str) -> None:
        events: list[Event] = []

        async def watch() -> None:
            after = events[-1].cursor if events else 0
            async for event in self._client().watch(task_id, after_cursor=after):
                events.append(event_of(event))  # noqa: PERF401 - kept even if the stream breaks

        try:
            await persist(watch, self.errors)
        except BaseException:
            dealings.watches.append(Watch(0, tuple(events), ended=False))
            raise
        dealings.watches.append(Watch(0, tuple(events), ended=True))

    def _client(self) -> Client:
        return self._rng.choice(self._clients)


async def persist(call: Callable[[], Awaitable[T]], errors: Errors | None = None) -> T:
    """Make a call until it is answered, and count what it met; refusals are answers."""
    while True:
        try:
            return await call()
        except StepwireError as error:
            if error.reason not in {
                Reason.DEPENDENCY_UNAVAILABLE,
                Reason.DEADLINE_EXCEEDED,
                Reason.OVERLOADED,
                Reason.INTERNAL,
            }:
                raise
            if errors is not None:
                errors[error.reason, error.message] += 1
        await asyncio.sleep(PAUSE_SECONDS)


def state_of(task: Task) -> str:
    """A task's state without its prefix."""
    return TaskState.Name(task.state).removeprefix("TASK_STATE_")


def event_of(event: TaskEvent) -> Event:
    """An event as the history keeps it."""
    kind = TaskEventType.Name(event.type).removeprefix("TASK_EVENT_TYPE_")
    at = event.time.seconds + event.time.nanos / 1e9
    return Event(event.cursor, kind, event.step_id, event.attempt, at)
