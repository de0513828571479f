"""P5 broken: a join starts with the first of the steps that it waits for."""

from executor_svc.store import PostgresStepStore

HURRY = """
UPDATE executor.steps s SET needs = 1
FROM unnest($1::uuid[], $2::text[]) AS r (task_id, step_id)
WHERE s.task_id = r.task_id AND s.step_id = r.step_id AND s.state = 'BLOCKED' AND s.needs > 1
"""


def apply():
    settle = PostgresStepStore.settle

    async def settle_early(self, session_id, settlements, **options):
        joins = [
            (settlement.attempt.task.task_id, join.step_id)
            for settlement in settlements
            for join in settlement.joins
        ]
        await self._pool.execute(HURRY, [task for task, _ in joins], [step for _, step in joins])
        return await settle(self, session_id, settlements, **options)

    PostgresStepStore.settle = settle_early
