"""Reading the record when a run is over, as any client would."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from stepwire.api.executor.v1.task_pb2 import StepRun, StepState, Task
from stepwire.payload import value_to_json
from stepwire.sdk.client import Client
from stepwire.testing.poll import eventually
from tests.chaos.customers import LABEL, Dealings, event_of, persist, state_of
from tests.chaos.history import Event, StepEnd, TaskEnd, TaskHistory
from tests.chaos.intents import CANCELLED, SUCCEEDED, TaskIntent
from tests.chaos.oracles.common import FINAL, UNFINISHED

STREAM_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ids of all tasks: by the request that made them, or by the parent's id and step."""

    sent: Mapping[str, Sequence[str]]
    started: Mapping[tuple[str, str], Sequence[str]]

    def ids(self) -> Iterator[str]:
        """All of them."""
        for ids in (*self.sent.values(), *self.started.values()):
            yield from ids


async def recorded_tasks(client: Client) -> Recorded:
    """Read which tasks there are."""

    async def read() -> Recorded:
        sent: dict[str, list[str]] = defaultdict(list)
        started: dict[tuple[str, str], list[str]] = defaultdict(list)
        async for task in client.find():
            if task.parent_task_id:
                started[task.parent_task_id, task.parent_step_id].append(task.task_id)
            else:
                sent[task.labels[LABEL]].append(task.task_id)
        return Recorded(sent, started)

    return await persist(read)


async def collect(client: Client, dealings: Sequence[Dealings]) -> tuple[TaskHistory, ...]:
    """Read the end of every task, also of those that nobody was told of."""
    recorded = await recorded_tasks(client)
    found = [_sent(each, recorded) for each in dealings]
    found += [child for task in found for child in _started(task, recorded)]
    return tuple(await asyncio.gather(*(_with_end(client, task) for task in found)))


def _sent(dealings: Dealings, recorded: Recorded) -> TaskHistory:
    return TaskHistory(
        intent=dealings.intent,
        answers=tuple(dealings.answers),
        unanswered=dealings.unanswered,
        refusals=tuple(dealings.refusals),
        cancelled=dealings.cancelled,
        watches=tuple(dealings.watches),
        recorded=tuple(recorded.sent.get(dealings.intent.request_id, ())),
    )


def _started(parent: TaskHistory, recorded: Recorded) -> Iterator[TaskHistory]:
    """The subtasks of a task; what they come to when it ends badly is open."""
    ends = (SUCCEEDED,) if parent.intent.ends == (SUCCEEDED,) else (SUCCEEDED, CANCELLED)
    for step in parent.intent.steps:
        for task_id in parent.recorded:
            if ids := recorded.started.get((task_id, step.name)):
                intent = TaskIntent(parent.intent.number, step.inner, ends=ends)
                yield TaskHistory(intent, parent_step=step.name, recorded=tuple(ids))


async def _with_end(client: Client, task: TaskHistory) -> TaskHistory:
    if not task.recorded:
        return task
    return replace(task, end=await _end(client, task.recorded[0]))


async def _end(client: Client, task_id: str) -> TaskEnd:
    task = await persist(lambda: client.get(task_id, steps=True, outputs=True))
    events = await _events(client, task)
    return TaskEnd(
        state=state_of(task),
        last_cursor=task.last_cursor,
        steps=tuple(_step(step) for step in task.steps),
        events=tuple(event for event in events if event.cursor <= task.last_cursor),
        failure=f"{task.failure.reason} {task.failure.step_id} {task.failure.message}",
    )


async def _events(client: Client, task: Task) -> list[Event]:
    events: list[Event] = []

    async def read() -> None:
        events.clear()
        async for event in client.watch(task.task_id):
            events.append(event_of(event))
            if event.cursor >= task.last_cursor:
                # A stream of a task that has not ended would not end either.
                break

    # A record with a gap keeps its watchers waiting; what came is told all the same.
    with suppress(TimeoutError):
        async with asyncio.timeout(STREAM_SECONDS):
            await persist(read)
    return events


async def until_quiet(client: Client, timeout_seconds: float) -> None:
    """Wait until nothing is under way any more.

    Raises:
        AssertionError: something still is, after so long.
    """
    recorded = await recorded_tasks(client)
    for task_id in recorded.ids():
        await eventually(partial(_is_quiet, client, task_id), timeout_seconds)


async def _is_quiet(client: Client, task_id: str) -> bool:
    """Whether a task has ended, and so have its steps."""
    task = await persist(lambda: client.get(task_id, steps=True))
    return state_of(task) in FINAL and not {_state(step) for step in task.steps} & UNFINISHED


def _step(step: StepRun) -> StepEnd:
    output = None
    if step.HasField("output"):
        output = value_to_json(step.output.json)
    return StepEnd(step.step_id, _state(step), step.attempt, output)


def _state(step: StepRun) -> str:
    return StepState.Name(step.state).removeprefix("STEP_STATE_")
