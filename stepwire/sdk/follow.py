"""Follows many tasks at once through their events."""

import asyncio
from collections.abc import Callable, Sequence

from stepwire.api.executor.v1.task_pb2 import TaskEvent
from stepwire.sdk.client import Client

# One connection carries them all, and a gateway admits about a hundred streams on one.
_MAX_STREAMS = 64


async def follow(
    client: Client, task_ids: Sequence[str], on_event: Callable[[TaskEvent], None]
) -> dict[str, list[TaskEvent]]:
    """Watches tasks until all of them are final.

    Args:
        client: To the gateway.
        task_ids: The tasks; any number, of which 64 are watched at a time.
        on_event: Called with every event; those of a task come in order.

    Returns:
        All events of each task by its id.

    Raises:
        ExceptionGroup: Of the `StepwireError` of each watch that failed; the others end.
    """
    events: dict[str, list[TaskEvent]] = {task_id: [] for task_id in task_ids}
    streams = asyncio.Semaphore(_MAX_STREAMS)

    async def watch(task_id: str) -> None:
        async with streams:
            async for event in client.watch(task_id):
                events[task_id].append(event)
                on_event(event)

    async with asyncio.TaskGroup() as group:
        for task_id in events:
            group.create_task(watch(task_id))
    return events
