-- Statements of the executor. Transitions of tasks and steps are functions
-- (migrations/0002); what stands here creates, reads and wakes.

-- name: add_graphs
-- Store graphs. $1 hashes, $2 specs.
INSERT INTO executor.graphs (graph_hash, spec)
SELECT * FROM unnest($1::bytea[], $2::bytea[])
ON CONFLICT DO NOTHING

-- name: read_graphs
-- Read graphs. $1 hashes.
SELECT graph_hash, spec FROM executor.graphs WHERE graph_hash = ANY ($1::bytea[])

-- name: create_tasks
-- Create tasks with the steps that have a row from the start, all or none. $1 to $10
-- tasks: ids, tenants, request ids, graph hashes, open sinks, inputs, input types, labels,
-- traceparents, creation times. $11 to $15 steps: task ids, step ids, ordinals, numbers of
-- dependencies (0 means ready), queues. $16 when the sweeper publishes ready steps again.
WITH created AS (
    INSERT INTO executor.tasks (task_id, tenant_id, request_id, graph_hash, open_sinks,
        input, input_type, labels, traceparent, created_at)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::integer[],
        $6::bytea[], $7::text[], $8::jsonb[], $9::text[], $10::timestamptz[])
)
INSERT INTO executor.steps (task_id, step_id, ordinal, state, waiting_for, queue, due_at)
SELECT s.task_id, s.step_id, s.ordinal,
    CASE WHEN s.dependencies = 0 THEN 'READY' ELSE 'BLOCKED' END::executor.step_state,
    s.dependencies, s.queue,
    CASE WHEN s.dependencies = 0 THEN now() + $16::interval END
FROM unnest($11::uuid[], $12::text[], $13::integer[], $14::integer[], $15::text[])
    AS s (task_id, step_id, ordinal, dependencies, queue)

-- name: find_requests
-- Find the tasks of request ids. $1 tenants, $2 request ids.
SELECT t.tenant_id, t.request_id, t.task_id, t.graph_hash, t.input
FROM unnest($1::text[], $2::text[]) AS r (tenant_id, request_id)
JOIN executor.tasks t ON t.tenant_id = r.tenant_id AND t.request_id = r.request_id

-- name: get_task
-- Read a task of a tenant. $1 task, $2 tenant.
SELECT * FROM executor.tasks WHERE task_id = $1 AND tenant_id = $2

-- name: list_tasks
-- List a tenant's tasks, newest first. $1 tenant, $2 behind this task (null: from the
-- newest), $3 state (null: any), $4 labels to contain (null: any), $5 most rows.
SELECT task_id, tenant_id, state, labels, failure, traceparent, last_cursor, created_at,
    started_at, ended_at
FROM executor.tasks
WHERE tenant_id = $1
    AND ($2::uuid IS NULL OR task_id < $2)
    AND ($3::executor.task_state IS NULL OR state = $3)
    AND ($4::jsonb IS NULL OR labels @> $4)
ORDER BY task_id DESC
LIMIT $5

-- name: list_steps
-- Read the steps of a task in the graph's order. $1 task, $2 whether with outputs.
SELECT step_id, ordinal, item, items, state, attempt, queue, due_at, failure, started_at,
    ended_at, waiting_for,
    CASE WHEN $2 THEN output END AS output, CASE WHEN $2 THEN output_type END AS output_type
FROM executor.steps WHERE task_id = $1
ORDER BY ordinal, item NULLS FIRST

-- name: read_outputs
-- Read the outputs of steps. $1 tasks, $2 step ids.
SELECT s.task_id, s.step_id, s.items, s.output, s.output_type
FROM unnest($1::uuid[], $2::text[]) AS r (task_id, step_id)
JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
WHERE s.state = 'SUCCEEDED'

-- name: read_item_outputs
-- Read the outputs of a for_each step's items in order. $1 task, $2 first step id of the
-- items' range (NAME[), $3 its end (NAME\).
SELECT output, output_type FROM executor.steps
WHERE task_id = $1 AND step_id > $2 AND step_id < $3
ORDER BY item

-- name: read_events
-- Read a task's events behind a cursor. $1 task, $2 cursor, $3 most rows.
SELECT task_id, last_cursor, recorded_at, events FROM executor.task_events
WHERE task_id = $1 AND last_cursor > $2
ORDER BY last_cursor
LIMIT $3

-- name: claim
-- See executor.claim_v1.
SELECT * FROM executor.claim_v1($1, $2, $3, $4)

-- name: settle
-- See executor.settle_v1.
SELECT * FROM executor.settle_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
    $15, $16, $17, $18, $19, $20, $21, $22, $23)

-- name: cancel_task
-- See executor.cancel_task_v1.
SELECT * FROM executor.cancel_task_v1($1)

-- name: retry_task
-- See executor.retry_task_v1.
SELECT * FROM executor.retry_task_v1($1, $2, $3)

-- name: expire_sessions
-- See executor.expire_sessions_v1.
SELECT * FROM executor.expire_sessions_v1($1, $2, $3)

-- name: open_session
-- Open a worker session. $1 session, $2 worker, $3 lease.
INSERT INTO executor.worker_sessions (session_id, worker, expires_at)
VALUES ($1, $2, now() + $3::interval)

-- name: renew_session
-- Renew a worker session's lease; no row means that it has run out. $1 session, $2 lease.
UPDATE executor.worker_sessions SET expires_at = now() + $2::interval
WHERE session_id = $1 RETURNING true

-- name: close_session
-- End a worker session's lease, so that what it still runs is given back at once.
-- $1 session.
UPDATE executor.worker_sessions SET expires_at = '-infinity' WHERE session_id = $1

-- name: running_of_session
-- Steps that a session has run for some time. $1 session, $2 time.
SELECT task_id, step_id FROM executor.steps
WHERE state = 'RUNNING' AND session_id = $1 AND started_at < now() - $2::interval

-- name: lose_steps
-- See executor.lose_steps_v1.
SELECT * FROM executor.lose_steps_v1($1, $2, $3, $4, $5)

-- name: ready_due
-- Make steps ready whose next attempt is due. $1 when the sweeper publishes them again,
-- $2 most rows.
WITH due AS (
    SELECT task_id, step_id FROM executor.steps
    WHERE state = 'WAITING' AND due_at <= now()
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE executor.steps s
SET state = 'READY', due_at = now() + $1::interval, publications = 0
FROM due d WHERE s.task_id = d.task_id AND s.step_id = d.step_id
RETURNING s.task_id, s.step_id, s.attempt, s.queue

-- name: republish
-- Take the steps that have stayed ready too long; each time the wait doubles.
-- $1 first wait, $2 queues, $3 by how much a step of each queue must be overdue, $4 most
-- rows of each queue.
WITH due AS (
    SELECT s.task_id, s.step_id
    FROM unnest($2::text[], $3::interval[]) AS q (queue, patience)
    CROSS JOIN LATERAL (
        SELECT task_id, step_id FROM executor.steps
        WHERE state = 'READY' AND queue = q.queue AND due_at <= now() - q.patience
        ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED
    ) AS s
)
UPDATE executor.steps s
SET due_at = now() + $1::interval * (1 << least(s.publications, 6)),
    publications = s.publications + 1
FROM due d WHERE s.task_id = d.task_id AND s.step_id = d.step_id
RETURNING s.task_id, s.step_id, s.attempt, s.queue

-- name: next_due
-- When the next attempt is due; null when none waits.
SELECT min(due_at) FROM executor.steps WHERE state = 'WAITING' AND due_at IS NOT NULL
