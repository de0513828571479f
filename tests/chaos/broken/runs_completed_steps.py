"""P2 broken: a message that comes twice runs a step twice, completed or not."""

from executor_svc.store import PostgresStepStore

AGAIN = """
UPDATE executor.steps s SET state = 'READY', due_at = now()
FROM unnest($1::uuid[], $2::text[], $3::integer[]) AS r (task_id, step_id, attempt)
JOIN executor.tasks t ON t.task_id = r.task_id AND t.state = 'RUNNING'
WHERE s.task_id = r.task_id AND s.step_id = r.step_id AND s.attempt = r.attempt
    AND s.state = 'SUCCEEDED'
"""


def apply():
    claim = PostgresStepStore.claim

    async def claim_anything(self, session_id, refs):
        await self._pool.execute(
            AGAIN,
            [ref.task_id for ref in refs],
            [ref.step_id for ref in refs],
            [ref.attempt for ref in refs],
        )
        return await claim(self, session_id, refs)

    PostgresStepStore.claim = claim_anything
