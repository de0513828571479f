"""Reading the record when a run is over, as any client would."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from stepwire.api.executor.v1.task_pb2 import StepRun, StepState, Task
from stepwire.payload import value_to_json
from stepwire.sdk.client import Client
from stepwire.testing.poll import eventually
from tests.chaos.customers import LABEL, Dealings, event_of, persist, state_of
from tests.chaos.history import Event, StepEnd, TaskEnd, TaskHistory
from tests.chaos.oracles import FINAL, UNFINISHED

STREAM_SECONDS = 20.0


async def recorded_tasks(client: Client) -> dict[str, list[str]]:
    """The ids of all tasks by the request that made them."""

    async def read() -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        async for task in client.find():
            found[task.labels[LABEL]].append(task.task_id)
        return found

    return await persist(read)


async def collect(client: Client, dealings: Sequence[Dealings]) -> tuple[TaskHistory, ...]:
    """Read the end of every task, also of those that nobody was told of."""
    recorded = await recorded_tasks(client)
    return tuple(
        await asyncio.gather(
            *(_collect(client, each, recorded[each.intent.request_id]) for each in dealings)
        )
    )


async def _collect(client: Client, dealings: Dealings, recorded: Sequence[str]) -> TaskHistory:
    history = TaskHistory(
        intent=dealings.intent,
        answers=tuple(dealings.answers),
        unanswered=dealings.unanswered,
        refusals=tuple(dealings.refusals),
        cancelled=dealings.cancelled,
        watches=tuple(dealings.watches),
        recorded=tuple(recorded),
    )
    if not recorded:
        return history
    return replace(history, end=await _end(client, recorded[0]))


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
    for task_id in (task_id for ids in recorded.values() for task_id in ids):
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
