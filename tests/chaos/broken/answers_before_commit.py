"""P1 broken: tasks are accepted at once and recorded a little later."""

import asyncio

from executor_svc.store import PostgresTaskStore

LATE_SECONDS = 0.5


def apply():
    create = PostgresTaskStore.create
    under_way = set()

    async def create_late(self, tasks, **options):
        async def later():
            await asyncio.sleep(LATE_SECONDS)
            await create(self, tasks, **options)

        task = asyncio.create_task(later())
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        return True

    PostgresTaskStore.create = create_late
