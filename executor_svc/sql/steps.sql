-- Statements of workers and of the sweep. Transitions are functions (migrations/0002).

-- name: add_graphs
-- Store graphs, and say of those that are there that they will be used; once a day, so that
-- one that is added all the time is not written all the time. $1 hashes, $2 specs. What
-- retention drops meanwhile is not found by the first part, and so is stored by the second.
WITH stale AS MATERIALIZED (
    SELECT g.graph_hash FROM executor.graphs g
    WHERE g.graph_hash = ANY ($1::bytea[]) AND g.used_at < now() - interval '1 day'
    ORDER BY g.graph_hash FOR NO KEY UPDATE
), used AS (
    UPDATE executor.graphs g SET used_at = now()
    FROM stale s WHERE g.graph_hash = s.graph_hash
    RETURNING g.graph_hash
)
INSERT INTO executor.graphs (graph_hash, spec)
SELECT n.graph_hash, n.spec FROM unnest($1::bytea[], $2::bytea[]) AS n (graph_hash, spec)
WHERE n.graph_hash NOT IN (SELECT u.graph_hash FROM used u)
ORDER BY n.graph_hash
ON CONFLICT DO NOTHING

-- name: read_graphs
-- Read graphs. $1 hashes.
SELECT graph_hash, spec FROM executor.graphs WHERE graph_hash = ANY ($1::bytea[])

-- name: add_payloads
-- Keep outputs apart. $1 tasks, $2 step ids, $3 attempts, $4 outputs.
INSERT INTO executor.payloads (task_id, step_id, attempt, data)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::bytea[])
ON CONFLICT DO NOTHING

-- name: read_task_inputs
-- Read inputs of tasks that are kept apart. $1 tasks.
SELECT task_id, data FROM executor.payloads
WHERE task_id = ANY ($1::uuid[]) AND step_id = '' AND attempt = 0

-- name: read_outputs
-- Read the outputs of steps that have succeeded. $1 tasks, $2 step ids.
SELECT s.task_id, s.step_id, s.items, s.output_type, coalesce(s.output, p.data) AS output
FROM unnest($1::uuid[], $2::text[]) AS r (task_id, step_id)
JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
LEFT JOIN executor.payloads p ON s.output IS NULL AND s.output_type IS NOT NULL
    AND p.task_id = s.task_id AND p.step_id = s.step_id AND p.attempt = s.attempt
WHERE s.state = 'SUCCEEDED'

-- name: read_item_outputs
-- Read the outputs of a for_each step's items in order, null for those that have none.
-- $1 task, $2 first step id of the items' range (NAME[), $3 its end (NAME\), $4 the step's
-- scope.
SELECT coalesce(s.output, p.data) AS output
FROM executor.steps s
LEFT JOIN executor.payloads p ON s.output IS NULL AND s.output_type IS NOT NULL
    AND p.task_id = s.task_id AND p.step_id = s.step_id AND p.attempt = s.attempt
WHERE s.task_id = $1 AND s.step_id > $2 AND s.step_id < $3 AND s.item IS NOT NULL
    AND s.scope IS NOT DISTINCT FROM $4
ORDER BY s.item

-- name: endings
-- How the steps of a task's own graph, or those that a step has added, stand. $1 task, $2
-- the step; null for the task's own.
SELECT step_id, state FROM executor.steps
WHERE task_id = $1 AND scope IS NOT DISTINCT FROM $2 AND item IS NULL AND step_id <> '~undo'

-- name: item_endings
-- How the items of a step stand. $1 task, $2 and $3 the range of their ids, $4 the step's
-- scope.
SELECT state FROM executor.steps
WHERE task_id = $1 AND step_id > $2 AND step_id < $3 AND item IS NOT NULL
    AND scope IS NOT DISTINCT FROM $4

-- name: collected_bytes
-- How large the outputs of the items of a step are together. Parameters as of item_endings.
SELECT coalesce(sum(octet_length(coalesce(s.output, p.data))), 0)::bigint
FROM executor.steps s
LEFT JOIN executor.payloads p ON s.output IS NULL AND s.output_type IS NOT NULL
    AND p.task_id = s.task_id AND p.step_id = s.step_id AND p.attempt = s.attempt
WHERE s.task_id = $1 AND s.step_id > $2 AND s.step_id < $3 AND s.item IS NOT NULL
    AND s.scope IS NOT DISTINCT FROM $4

-- name: undoable
-- What has succeeded or still runs in a task, last ended first. $1 task.
SELECT step_id, ordinal, item, state, scope, graph_hash FROM executor.steps
WHERE task_id = $1 AND step_id < '~' AND state IN ('SUCCEEDED', 'RUNNING')
ORDER BY ended_at DESC, step_id DESC

-- name: added_input
-- Read the input of the graph that a step has added. $1 task, $2 step.
SELECT inbox FROM executor.steps WHERE task_id = $1 AND step_id = $2

-- name: known_queues
-- The queues that executors know.
SELECT queue FROM executor.queues

-- name: claim
-- See executor.claim_v1.
SELECT * FROM executor.claim_v1($1, $2, $3, $4)

-- name: claim_expired
-- See executor.claim_v1.
SELECT * FROM executor.claim_v1($1, $2, $3, $4, true)

-- name: lock_tasks
-- See executor.lock_tasks. $1 tasks.
SELECT executor.lock_tasks($1)

-- name: expired
-- Steps whose schedule_to_close is over while they wait for a worker. $1 graphs of which none
-- are wanted, $2 most rows.
SELECT s.task_id, s.step_id, s.attempt, s.queue,
    coalesce(s.graph_hash, t.graph_hash) AS graph_hash
FROM executor.steps s JOIN executor.tasks t ON t.task_id = s.task_id
WHERE s.state = 'READY' AND s.expires_at <= now()
    AND coalesce(s.graph_hash, t.graph_hash) <> ALL ($1::bytea[])
ORDER BY s.expires_at LIMIT $2

-- name: start
-- See executor.start_v1.
SELECT * FROM executor.start_v1($1, $2, $3, $4, $5)

-- name: still_runs
-- Which attempts (places, 1-based) a session runs. $1 session, $2 tasks, $3 step ids, $4 attempts.
SELECT r.place
FROM unnest($2::uuid[], $3::text[], $4::integer[])
    WITH ORDINALITY AS r (task_id, step_id, attempt, place)
JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
WHERE s.attempt = r.attempt AND s.state::text = 'RUNNING' AND s.session_id = $1

-- name: settle
-- See executor.settle_v1.
SELECT * FROM executor.settle_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
    $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32,
    $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44)

-- name: heartbeat
-- See executor.heartbeat_v1.
SELECT executor.heartbeat_v1($1, $2, $3, $4, $5)

-- name: running_of_session
-- Steps that a session has run for some time. $1 session, $2 time.
SELECT task_id, step_id FROM executor.steps
WHERE state = 'RUNNING' AND session_id = $1 AND started_at < now() - $2::interval

-- name: lose_steps
-- See executor.lose_steps_v1.
SELECT * FROM executor.lose_steps_v1($1, $2, $3, $4)

-- name: lose_orphans
-- See executor.lose_orphans_v1.
SELECT * FROM executor.lose_orphans_v1($1, $2)

-- name: wake_due
-- See executor.wake_due_v1.
SELECT * FROM executor.wake_due_v1($1, $2)

-- name: expire_tasks
-- See executor.expire_tasks_v1.
SELECT * FROM executor.expire_tasks_v1($1, $2)

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
        ORDER BY due_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED
    ) AS s
    WHERE q.queue <> ALL (ARRAY(SELECT p.queue FROM executor.queues p WHERE p.paused))
)
UPDATE executor.steps s
SET due_at = now() + $1::interval * (1 << least(s.publications, 6)),
    publications = s.publications + 1
FROM due d WHERE s.task_id = d.task_id AND s.step_id = d.step_id
RETURNING s.task_id, s.step_id, s.attempt, s.queue

-- name: next_due
-- When the next wait is over by the clock; null when none is. That of a step for a worker is
-- told only before it is over: it may take until a worker comes that knows its graph.
SELECT least(
    (SELECT min(due_at) FROM executor.steps WHERE state = 'WAITING' AND due_at IS NOT NULL),
    (SELECT min(expires_at) FROM executor.steps
        WHERE state = 'READY' AND expires_at IS NOT NULL AND expires_at > now()),
    (SELECT min(deadline) FROM executor.deadlines))
