-- Statements of limits, and of publishing steps in fair order. Transitions are functions
-- (migrations/0007).

-- name: acquire
-- See executor.acquire_v1.
SELECT * FROM executor.acquire_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: admit
-- See executor.admit_v1.
SELECT * FROM executor.admit_v1($1, $2, $3, $4)

-- name: tidy_limits
-- See executor.tidy_limits_v1.
SELECT * FROM executor.tidy_limits_v1($1)

-- name: due_limits
-- Limits under which somebody may get a turn by the clock. $1 most rows.
SELECT tenant_id, key FROM executor.limits WHERE due_at <= now() ORDER BY due_at LIMIT $1

-- name: waiting_limits
-- Limits under which somebody waits, in order. $1, $2 behind this tenant and key; $3 most
-- rows.
WITH RECURSIVE waiting AS (
    (SELECT tenant_id, key FROM executor.limit_waiters
        WHERE (tenant_id, key) > ($1, $2) ORDER BY tenant_id, key LIMIT 1)
    UNION ALL
    SELECT n.tenant_id, n.key FROM waiting w CROSS JOIN LATERAL (
        SELECT l.tenant_id, l.key FROM executor.limit_waiters l
        WHERE (l.tenant_id, l.key) > (w.tenant_id, w.key)
        ORDER BY l.tenant_id, l.key LIMIT 1
    ) AS n
)
SELECT tenant_id, key FROM waiting LIMIT $3

-- name: next_due_limit
-- When the next turn by the clock is due under a limit; null when none is.
SELECT min(due_at) FROM executor.limits WHERE due_at IS NOT NULL

-- name: release
-- See executor.release_v1.
SELECT task_id, step_id, attempt, queue FROM executor.release_v1($1, $2, $3)

-- name: unpublished_queues
-- Queues with steps that are ready and not published, and those that are paused; whether
-- each is paused.
WITH RECURSIVE waiting AS (
    (SELECT queue FROM executor.steps WHERE state = 'READY' AND due_at IS NULL
        ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT s.queue FROM executor.steps s
        WHERE s.state = 'READY' AND s.due_at IS NULL AND s.queue > w.queue
        ORDER BY s.queue LIMIT 1)
    FROM waiting w WHERE w.queue IS NOT NULL
)
SELECT w.queue, false AS paused FROM waiting w
WHERE w.queue IS NOT NULL
    AND w.queue NOT IN (SELECT q.queue FROM executor.queues q WHERE q.paused)
UNION ALL
SELECT q.queue, true FROM executor.queues q WHERE q.paused

-- name: overdue_queues
-- Which of some queues have published steps that stay ready for too long. $1 queues.
SELECT q.queue FROM unnest($1::text[]) AS q (queue)
WHERE EXISTS (SELECT FROM executor.steps s
    WHERE s.state = 'READY' AND s.due_at <= now() AND s.queue = q.queue)
