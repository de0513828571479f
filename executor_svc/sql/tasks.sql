-- Statements of a task's owner: creating, reading and changing tasks. Transitions are
-- functions (migrations/0002).

-- name: create_tasks
-- Create tasks with the steps that have a row from the start, all or none.
-- $1 to $17 tasks: ids, tenants, graph hashes, open sinks, traits, priorities, inputs (null:
-- kept apart), input types, labels, traceparents, workflows, their versions, parents' tasks
-- and steps, depths, deadlines, creation times.
-- $18 to $28 steps: task ids, tenants, step ids, ordinals, how many must succeed, how many
-- have not ended, queues, priorities, lifetimes, start times (null: at once), whether they
-- are held.
-- $29 queues whose ready steps are not published yet, $30 when the sweeper publishes ready
-- steps again.
-- $31 to $34 request ids: tenants, request ids, tasks, digests.
-- $35, $36 inputs kept apart: tasks, inputs.
-- $37 to $43 tasks that wait for a place: tenants, keys, priorities, tasks, policies, bounds,
-- start times (null: at once). $44 tasks: how long they may last.
-- $45 to $47 attempts that make subtasks here (null: none does): tasks, step ids, attempts;
-- see executor.hold_parents_v1.
WITH held AS MATERIALIZED (
    SELECT executor.hold_parents_v1($45::uuid[], $46::text[], $47::integer[])
), created AS (
    INSERT INTO executor.tasks (task_id, tenant_id, graph_hash, open_sinks, traits, priority,
        input, input_type, labels, traceparent, workflow, workflow_version, parent_task_id,
        parent_step_id, depth, deadline, created_at, timeout)
    SELECT n.* FROM held, unnest($1::uuid[], $2::text[], $3::bytea[], $4::integer[],
        $5::integer[], $6::smallint[], $7::bytea[], $8::text[], $9::jsonb[], $10::text[],
        $11::text[], $12::text[], $13::uuid[], $14::text[], $15::smallint[],
        $16::timestamptz[], $17::timestamptz[], $44::interval[]) AS n
), limited AS (
    INSERT INTO executor.deadlines (task_id, deadline)
    SELECT * FROM unnest($1::uuid[], $16::timestamptz[]) AS d (task_id, deadline)
    WHERE d.deadline IS NOT NULL
), requested AS (
    INSERT INTO executor.requests (tenant_id, request_id, task_id, digest)
    SELECT * FROM unnest($31::text[], $32::text[], $33::uuid[], $34::bytea[])
), kept_apart AS (
    INSERT INTO executor.payloads (task_id, step_id, attempt, data)
    SELECT p.task_id, '', 0, p.data FROM unnest($35::uuid[], $36::bytea[]) AS p (task_id, data)
), waiting AS (
    INSERT INTO executor.limit_waiters (tenant_id, key, priority, task_id, step_id, policy,
        max_running, not_before)
    SELECT w.tenant_id, w.key, w.priority, w.task_id, '', w.policy, w.max_running, w.not_before
    FROM unnest($37::text[], $38::text[], $39::smallint[], $40::uuid[], $41::smallint[],
        $42::integer[], $43::timestamptz[])
        AS w (tenant_id, key, priority, task_id, policy, max_running, not_before)
)
INSERT INTO executor.steps (task_id, tenant_id, step_id, ordinal, state, phase, needs, open,
    queue, priority, lifetime, waits_for, due_at, ready_at, expires_at)
SELECT s.task_id, s.tenant_id, s.step_id, s.ordinal,
    CASE WHEN NOT r.free OR s.held THEN 'BLOCKED'
        WHEN s.start_after IS NOT NULL THEN 'WAITING' ELSE 'READY' END::executor.step_state,
    -- Its join cannot be satisfied: a worker finds out what becomes of it.
    CASE WHEN s.needs > s.open THEN 3 ELSE 0 END,
    CASE WHEN r.free THEN 0 ELSE s.needs END, CASE WHEN r.free THEN 0 ELSE s.open END,
    s.queue, s.priority, s.lifetime,
    CASE WHEN r.free AND NOT s.held AND s.start_after IS NOT NULL THEN 'start' END,
    CASE WHEN NOT r.free OR s.held THEN NULL
        WHEN s.start_after IS NOT NULL THEN s.start_after
        WHEN s.queue <> ALL ($29::text[]) THEN now() + $30::interval END,
    CASE WHEN r.free AND NOT s.held AND s.start_after IS NULL THEN now() END,
    CASE WHEN r.free AND NOT s.held AND s.start_after IS NULL THEN now() + s.lifetime END
FROM unnest($18::uuid[], $19::text[], $20::text[], $21::integer[], $22::integer[],
    $23::integer[], $24::text[], $25::smallint[], $26::interval[], $27::timestamptz[],
    $28::boolean[])
    AS s (task_id, tenant_id, step_id, ordinal, needs, open, queue, priority, lifetime,
        start_after, held)
CROSS JOIN LATERAL (SELECT s.open = 0 OR s.needs > s.open AS free) AS r

-- name: find_requests
-- Find the tasks of request ids. $1 tenants, $2 request ids.
SELECT q.tenant_id, q.request_id, q.task_id, q.digest
FROM unnest($1::text[], $2::text[]) AS r (tenant_id, request_id)
JOIN executor.requests q ON q.tenant_id = r.tenant_id AND q.request_id = r.request_id

-- name: requested
-- What the task runs that a request id has made. $1 tenant, $2 request id.
SELECT t.graph_hash, t.workflow, t.workflow_version
FROM executor.requests q JOIN executor.tasks t ON t.task_id = q.task_id
WHERE q.tenant_id = $1 AND q.request_id = $2

-- name: made_by
-- Which tasks were made by a request id that begins so. $1 tasks, $2 tenant, $3 beginning.
SELECT task_id FROM executor.requests
WHERE task_id = ANY ($1::uuid[]) AND tenant_id = $2 AND starts_with(request_id, $3)

-- name: get_task
-- Read a task of a tenant. $1 task, $2 tenant, $3 whether with its input, $4 of which steps
-- to read the outputs as well (null: of none), as in read_outputs.
SELECT t.task_id, t.tenant_id, t.shown AS state, t.labels, t.failure, t.traceparent, t.last_cursor,
    t.created_at, t.started_at, t.ended_at, t.priority, t.workflow, t.workflow_version,
    t.parent_task_id, t.parent_step_id, t.forked_from, t.deadline, t.timeout, t.traits,
    t.graph_hash,
    t.retry_request_id, t.pause_request_id, t.resume_request_id, t.input_type,
    CASE WHEN $3 THEN coalesce(t.input, (SELECT p.data FROM executor.payloads p
        WHERE p.task_id = t.task_id AND p.step_id = '' AND p.attempt = 0)) END AS input,
    CASE WHEN $4::text[] IS NOT NULL THEN ARRAY(
        SELECT (s.step_id, s.items, s.output_type, coalesce(s.output, (
            SELECT p.data FROM executor.payloads p
            WHERE p.task_id = s.task_id AND p.step_id = s.step_id AND p.attempt = s.attempt
                AND s.output_type IS NOT NULL)))
        FROM executor.steps s
        WHERE s.task_id = t.task_id AND s.step_id = ANY ($4) AND s.state = 'SUCCEEDED')
    END AS outputs
FROM executor.shown_tasks t
WHERE t.task_id = $1 AND t.tenant_id = $2

-- name: alive_tasks
-- See executor.alive_v1. $1 tenant, $2 from this id, $3 to before this id, $4 whether those that
-- wait, $5 most rows to look at.
SELECT executor.alive_v1($1, $2, $3, $4, $5)

-- name: list_tasks
-- List a tenant's tasks, newest first. $1 tenant, $2 from this id, $3 to before this id,
-- $4 state (null: any), $5 labels to contain (null: any), $6 workflow (null: any), $7 its
-- version (null: any), $8 most rows.
SELECT t.task_id, t.tenant_id, t.shown AS state, t.labels, t.failure, t.traceparent, t.last_cursor,
    t.created_at, t.started_at, t.ended_at, t.priority, t.workflow, t.workflow_version,
    t.parent_task_id, t.parent_step_id, t.forked_from, t.deadline
FROM executor.shown_tasks t
WHERE t.tenant_id = $1 AND t.task_id >= $2 AND t.task_id < $3
    AND ($4::executor.task_state IS NULL OR t.shown = $4)
    AND ($5::jsonb IS NULL OR t.labels @> $5)
    AND ($6::text IS NULL OR t.workflow = $6)
    AND ($7::text IS NULL OR t.workflow_version = $7)
ORDER BY t.task_id DESC
LIMIT $8

-- name: list_workflow_tasks
-- The same of tasks of a workflow, $6.
SELECT t.task_id, t.tenant_id, t.shown AS state, t.labels, t.failure, t.traceparent, t.last_cursor,
    t.created_at, t.started_at, t.ended_at, t.priority, t.workflow, t.workflow_version,
    t.parent_task_id, t.parent_step_id, t.forked_from, t.deadline
FROM executor.workflow_tasks_v1($1, $2, $3, $4, $5, $6, $7, $8, true) AS t
ORDER BY t.task_id DESC

-- name: list_alive_tasks
-- The same of tasks among some, $9, as alive_v1 has found them.
SELECT t.task_id, t.tenant_id, t.shown AS state, t.labels, t.failure, t.traceparent, t.last_cursor,
    t.created_at, t.started_at, t.ended_at, t.priority, t.workflow, t.workflow_version,
    t.parent_task_id, t.parent_step_id, t.forked_from, t.deadline
FROM executor.shown_tasks t
WHERE t.tenant_id = $1 AND t.task_id >= $2 AND t.task_id < $3 AND t.shown = $4
    AND t.task_id = ANY ($9::uuid[])
    AND ($5::jsonb IS NULL OR t.labels @> $5)
    AND ($6::text IS NULL OR t.workflow = $6)
    AND ($7::text IS NULL OR t.workflow_version = $7)
ORDER BY t.task_id DESC
LIMIT $8

-- name: list_marked_tasks
-- List a tenant's tasks of a state that is a mark, newest first. $1 tenant, $2 from this
-- id, $3 to before this id, $4 mark, $5 labels to contain (null: any), $6 workflow (null:
-- any), $7 its version (null: any), $8 most rows, $9 reason of the failure (null: any).
SELECT t.task_id, t.tenant_id, t.state, t.labels, t.failure, t.traceparent, t.last_cursor,
    t.created_at, t.started_at, t.ended_at, t.priority, t.workflow, t.workflow_version,
    t.parent_task_id, t.parent_step_id, t.forked_from, t.deadline
FROM executor.tasks t
WHERE t.tenant_id = $1 AND t.mark = $4 AND t.task_id >= $2 AND t.task_id < $3
    AND ($5::jsonb IS NULL OR t.labels @> $5)
    AND ($6::text IS NULL OR t.workflow = $6)
    AND ($7::text IS NULL OR t.workflow_version = $7)
    AND ($9::text IS NULL OR t.failure ->> 'reason' = $9)
ORDER BY t.task_id DESC
LIMIT $8

-- name: find_tasks
-- Ids of a tenant's tasks, oldest first; parameters as list_tasks.
SELECT t.task_id
FROM executor.shown_tasks t
WHERE t.tenant_id = $1 AND t.task_id >= $2 AND t.task_id < $3
    AND ($4::executor.task_state IS NULL OR t.shown = $4)
    AND ($5::jsonb IS NULL OR t.labels @> $5)
    AND ($6::text IS NULL OR t.workflow = $6)
    AND ($7::text IS NULL OR t.workflow_version = $7)
ORDER BY t.task_id
LIMIT $8

-- name: find_workflow_tasks
-- The same of tasks of a workflow, $6.
SELECT t.task_id FROM executor.workflow_tasks_v1($1, $2, $3, $4, $5, $6, $7, $8, false) AS t
ORDER BY t.task_id

-- name: find_alive_tasks
-- The same of tasks among some, $9, as alive_v1 has found them.
SELECT t.task_id
FROM executor.shown_tasks t
WHERE t.tenant_id = $1 AND t.task_id >= $2 AND t.task_id < $3 AND t.shown = $4
    AND t.task_id = ANY ($9::uuid[])
    AND ($5::jsonb IS NULL OR t.labels @> $5)
    AND ($6::text IS NULL OR t.workflow = $6)
    AND ($7::text IS NULL OR t.workflow_version = $7)
ORDER BY t.task_id
LIMIT $8

-- name: find_marked_tasks
-- Ids of a tenant's tasks of a state that is a mark, oldest first; parameters as
-- list_marked_tasks.
SELECT t.task_id
FROM executor.tasks t
WHERE t.tenant_id = $1 AND t.mark = $4 AND t.task_id >= $2 AND t.task_id < $3
    AND ($5::jsonb IS NULL OR t.labels @> $5)
    AND ($6::text IS NULL OR t.workflow = $6)
    AND ($7::text IS NULL OR t.workflow_version = $7)
    AND ($9::text IS NULL OR t.failure ->> 'reason' = $9)
ORDER BY t.task_id
LIMIT $8

-- name: list_steps
-- Read the steps of a task. $1 task, $2 whether with outputs and heartbeats.
SELECT s.step_id, s.ordinal, s.item, s.items, s.scope, s.graph_hash, s.state, s.attempt, s.queue,
    s.waits_for, s.due_at, s.failure, s.started_at, s.ended_at,
    CASE WHEN $2 THEN coalesce(s.output, p.data) END AS output, s.output_type,
    CASE WHEN $2 THEN s.heartbeat END AS heartbeat
FROM executor.steps s
LEFT JOIN executor.payloads p ON $2 AND s.output IS NULL AND s.output_type IS NOT NULL
    AND p.task_id = s.task_id AND p.step_id = s.step_id AND p.attempt = s.attempt
WHERE s.task_id = $1

-- name: read_events
-- Read a task's events behind a cursor. $1 task, $2 cursor, $3 most rows.
SELECT task_id, last_cursor, recorded_at, events FROM executor.task_events
WHERE task_id = $1 AND last_cursor > $2
ORDER BY last_cursor
LIMIT $3

-- name: added_graphs
-- Graphs that a task's steps have added. $1 task.
SELECT DISTINCT added_graph FROM executor.steps
WHERE task_id = $1 AND added_graph IS NOT NULL

-- name: find_signal
-- Read a signal. $1 task, $2 request id.
SELECT name, payload FROM executor.signals WHERE task_id = $1 AND request_id = $2

-- name: cancel_task
-- See executor.cancel_task_v1.
SELECT * FROM executor.cancel_task_v1($1)

-- name: pause_task
-- See executor.pause_task_v1.
SELECT * FROM executor.pause_task_v1($1, $2)

-- name: resume_task
-- See executor.resume_task_v1.
SELECT * FROM executor.resume_task_v1($1, $2, $3)

-- name: retry_task
-- See executor.retry_task_v1.
SELECT * FROM executor.retry_task_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)

-- name: left_steps
-- The steps of a task, if one of them has failed because others did. $1 task.
SELECT s.step_id, s.ordinal, s.item, s.items, s.scope, s.added_graph, s.state, s.tolerated,
    s.needs, s.open, s.phase, s.started_at IS NOT NULL AS started
FROM executor.steps s
WHERE s.task_id = $1 AND EXISTS (
    SELECT FROM executor.steps f
    WHERE f.task_id = $1 AND f.state::text = 'FAILED' AND NOT f.tolerated
        AND (f.phase = 3 OR f.items IS NOT NULL))

-- name: signal_task
-- See executor.signal_task_v1.
SELECT * FROM executor.signal_task_v1($1, $2, $3, $4, $5, $6)

-- name: wake_parent
-- See executor.wake_parent_v1.
SELECT * FROM executor.wake_parent_v1($1, $2, $3, $4)

-- name: mark_fork
-- Say of which task another is a fork, and hold that one: retention passes over it until the
-- fork is there. $1 new task, $2 the task it is made from. No row when that one has gone.
WITH origin AS (
    SELECT o.task_id, o.depth FROM executor.tasks o WHERE o.task_id = $2 FOR KEY SHARE
)
UPDATE executor.tasks t SET forked_from = o.task_id, depth = o.depth
FROM origin o WHERE t.task_id = $1
RETURNING t.task_id

-- name: use_graphs_of
-- Say that the graphs that a task runs will be used. $1 task.
UPDATE executor.graphs g SET used_at = now()
FROM (
    SELECT u.graph_hash FROM executor.graphs u
    WHERE u.used_at < now() - interval '1 day' AND u.graph_hash IN (
        SELECT t.graph_hash FROM executor.tasks t WHERE t.task_id = $1
        UNION ALL
        SELECT s.added_graph FROM executor.steps s
        WHERE s.task_id = $1 AND s.added_graph IS NOT NULL)
    ORDER BY u.graph_hash FOR NO KEY UPDATE
) AS u
WHERE g.graph_hash = u.graph_hash

-- name: copy_steps
-- Copy steps with their items and what they have added; what of these is not over is
-- cancelled. The result says which of the steps were over. $1 new task, $2 the task it is
-- made from, $3 steps of the graph.
WITH copied AS (
    INSERT INTO executor.steps (task_id, step_id, ordinal, item, items, released, scope,
        graph_hash, added_graph, state, phase, attempt, failures, losses, tenant_id, queue,
        priority, item_input, inbox, output, output_type, failure, heartbeat, ready_at,
        started_at, ended_at, lifetime, expires_at, tolerated)
    SELECT $1, s.step_id, s.ordinal, s.item, s.items, s.released, s.scope, s.graph_hash,
        s.added_graph,
        CASE WHEN s.ended_at IS NULL THEN 'CANCELLED' ELSE s.state END::executor.step_state,
        s.phase, s.attempt, s.failures, s.losses, s.tenant_id, s.queue, s.priority,
        s.item_input, s.inbox, s.output, s.output_type, s.failure, s.heartbeat, s.ready_at,
        s.started_at, coalesce(s.ended_at, now()), s.lifetime, s.expires_at, s.tolerated
    FROM executor.steps s
    WHERE s.task_id = $2 AND substring(s.step_id FROM '^[^[/]*') = ANY ($3::text[])
    RETURNING step_id, state, attempt, output, output_type
), payloads AS (
    INSERT INTO executor.payloads (task_id, step_id, attempt, data)
    SELECT $1, p.step_id, p.attempt, p.data
    FROM copied c JOIN executor.payloads p ON p.task_id = $2 AND p.step_id = c.step_id
        AND p.attempt = c.attempt
    WHERE c.output IS NULL AND c.output_type IS NOT NULL
)
SELECT step_id FROM copied WHERE step_id = ANY ($3::text[]) AND state <> 'CANCELLED'
