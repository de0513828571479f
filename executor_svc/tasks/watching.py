"""Waiting for tasks and watching them: fed by the event bus, sure by the record."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from executor_svc.engine.records import EventBatch, TaskEvent
from executor_svc.tasks.events import FINAL, EventHub, ending, parse_events
from executor_svc.tasks.ports import TaskReader
from executor_svc.tasks.recent import RecentTasks
from executor_svc.tasks.tasks import Tasks, TaskView

EVENTS_PAGE = 1000


class Watches:
    """Follows tasks.

    `recheck` is how long a watcher trusts the event bus before it looks into the record.
    """

    def __init__(
        self,
        tasks: Tasks,
        store: TaskReader,
        hub: EventHub,
        recent: RecentTasks,
        *,
        recheck: timedelta,
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._hub = hub
        self._recent = recent
        self._recheck_seconds = recheck.total_seconds()

    def close(self) -> None:
        """End every watch: watches never end by themselves, and go on elsewhere by cursor."""
        self._hub.close()

    async def wait(self, task_id: UUID, *, tenant_id: str, at_most: timedelta) -> TaskView:
        """Wait until a task is final, for `at_most`; return it as it then is.

        Raises:
            StepwireError: TASK_NOT_FOUND.
        """
        async with self._hub.watch(task_id) as batches:
            recent = self._recent.find(task_id, tenant_id=tenant_id)
            if recent is None:
                view = await self._tasks.view(task_id, tenant_id=tenant_id)
                if view.task.state.is_final:
                    return view
                sinks = await self._tasks.sinks_of(view.task.graph_hash)
            else:
                sinks = recent.sinks
            with suppress(TimeoutError):
                async with asyncio.timeout(at_most.total_seconds()):
                    while True:
                        await self._next_final(batches)
                        view = await self._tasks.view_ended(task_id, sinks, tenant_id=tenant_id)
                        if view.task.state.is_final:
                            return view
        return await self._tasks.view(task_id, tenant_id=tenant_id)

    async def _next_final(self, batches: asyncio.Queue[EventBatch | None]) -> None:
        """Wait for the event that makes the task final, or until the record is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._recheck_seconds):
                while True:
                    batch = await batches.get()
                    if batch is None:
                        raise ending()
                    if any(event.type in FINAL for event in parse_events(batch)):
                        return

    async def watch(
        self, task_id: UUID, *, tenant_id: str, after: int
    ) -> AsyncGenerator[TaskEvent, None]:
        """Yield a task's events behind a cursor, in order and without gap, to the final one.

        Raises:
            StepwireError: TASK_NOT_FOUND.
        """
        async with self._hub.watch(task_id) as batches:
            cursor = after
            while True:
                task = await self._tasks.get(task_id, tenant_id=tenant_id)
                has_ended = False
                while events := await self._store.events(task, after=cursor, limit=EVENTS_PAGE):
                    for event in events:
                        yield event
                        cursor = event.cursor
                        has_ended = event.type in FINAL
                # Behind the cursor at which it had ended the task goes on: it was retried.
                if task.state.is_final and cursor <= max(after, task.last_cursor):
                    return
                if has_ended:
                    # Since the task was read: nothing may follow.
                    continue
                async for event in self._live(batches, cursor):
                    yield event
                    cursor = event.cursor

    async def _live(
        self, batches: asyncio.Queue[EventBatch | None], cursor: int
    ) -> AsyncIterator[TaskEvent]:
        """Yield events from the bus until a gap, the final event, or the recheck is due."""
        while True:
            try:
                async with asyncio.timeout(self._recheck_seconds):
                    batch = await batches.get()
            except TimeoutError:
                return
            if batch is None:
                raise ending()
            for event in parse_events(batch):
                if event.cursor <= cursor:
                    continue
                if event.cursor > cursor + 1:
                    return
                yield event
                cursor = event.cursor
                if event.type in FINAL:
                    return
