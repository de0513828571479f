"""P6 broken: a task is called cancelled, and its steps go on."""

from executor_svc.engine.ports import Effects
from executor_svc.engine.records import EventBatch
from executor_svc.store import PostgresTaskStore

CANCELLED = '[[5,"",0]]'
CANCEL = """
WITH cancelled AS (
    UPDATE executor.tasks
    SET state = 'CANCELLED', ended_at = now(), last_cursor = last_cursor + 1
    WHERE task_id = $1 AND ended_at IS NULL
    RETURNING task_id, last_cursor
)
INSERT INTO executor.task_events (task_id, last_cursor, events)
SELECT task_id, last_cursor, $2::json FROM cancelled
RETURNING task_id, last_cursor, recorded_at
"""


def apply():
    async def cancel(self, task_id):
        row = await self._pool.fetchrow(CANCEL, task_id, CANCELLED)
        if row is None:
            return None
        batch = EventBatch(task_id, row["last_cursor"], row["recorded_at"], CANCELLED)
        return Effects(events=[batch])

    PostgresTaskStore.cancel = cancel
