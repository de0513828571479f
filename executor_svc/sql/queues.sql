-- Statements about queues, workers and steps that failed.

-- name: count_backlogs
-- Count ready, running and waiting steps by queue, from indexes alone.
SELECT c.queue, sum(c.ready)::bigint AS ready, sum(c.running)::bigint AS running,
    sum(c.waiting)::bigint AS waiting, min(c.oldest_ready_at) AS oldest_ready_at
FROM (
    SELECT queue, count(*) AS ready, 0 AS running, 0 AS waiting,
        min(ready_at) AS oldest_ready_at
    FROM executor.steps WHERE state = 'READY' AND due_at IS NOT NULL GROUP BY queue
    UNION ALL
    SELECT queue, count(*), 0, 0, min(ready_at)
    FROM executor.steps WHERE state = 'READY' AND due_at IS NULL GROUP BY queue
    UNION ALL
    SELECT queue, 0, count(*), 0, NULL
    FROM executor.steps WHERE state = 'RUNNING' GROUP BY queue
    UNION ALL
    SELECT queue, 0, 0, count(*), NULL
    FROM executor.steps WHERE state = 'WAITING' AND due_at IS NOT NULL GROUP BY queue
) AS c
GROUP BY c.queue

-- name: count_running
-- Count the running steps of a queue. $1 queue.
SELECT count(*) FROM executor.steps WHERE state = 'RUNNING' AND queue = $1

-- name: add_traffic
-- Add counts to the current span of 10 seconds. $1 queues, in order, so that processes lock
-- rows in the same one; $2 arrived, $3 started, $4 finished, $5 failed, $6 wait seconds,
-- $7 busy seconds.
INSERT INTO executor.queue_stats AS q (bucket, queue, arrived, started, finished, failed,
    wait_seconds, busy_seconds)
SELECT date_bin('10 seconds', now(), 'epoch'), f.*
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
    $6::double precision[], $7::double precision[]) AS f
ON CONFLICT (bucket, queue) DO UPDATE SET
    arrived = q.arrived + excluded.arrived,
    started = q.started + excluded.started,
    finished = q.finished + excluded.finished,
    failed = q.failed + excluded.failed,
    wait_seconds = q.wait_seconds + excluded.wait_seconds,
    busy_seconds = q.busy_seconds + excluded.busy_seconds

-- name: forget_traffic
-- Delete the counts of spans that began before a time ago. $1 time.
DELETE FROM executor.queue_stats WHERE bucket < now() - $1::interval

-- name: recent_traffic
-- Sum up what happened in the last minute, to the present second, and in the last hour.
SELECT q.queue, now() - w.start AS minute_span,
    coalesce(sum(q.arrived) FILTER (WHERE q.bucket >= w.start), 0)::bigint AS arrived,
    coalesce(sum(q.started) FILTER (WHERE q.bucket >= w.start), 0)::bigint AS started,
    coalesce(sum(q.finished) FILTER (WHERE q.bucket >= w.start), 0)::bigint AS finished,
    coalesce(sum(q.failed) FILTER (WHERE q.bucket >= w.start), 0)::bigint AS failed,
    coalesce(sum(q.wait_seconds) FILTER (WHERE q.bucket >= w.start), 0) AS wait_seconds,
    coalesce(sum(q.busy_seconds) FILTER (WHERE q.bucket >= w.start), 0) AS busy_seconds,
    sum(q.arrived)::bigint AS hour_arrived,
    sum(q.started)::bigint AS hour_started,
    sum(q.finished)::bigint AS hour_finished,
    sum(q.failed)::bigint AS hour_failed,
    sum(q.wait_seconds) AS hour_wait_seconds,
    sum(q.busy_seconds) AS hour_busy_seconds
FROM executor.queue_stats q,
    (SELECT date_bin('10 seconds', now() - interval '1 minute', 'epoch') AS start) AS w
WHERE q.bucket >= now() - interval '1 hour'
GROUP BY q.queue, w.start

-- name: time_now
-- What time it is.
SELECT now()

-- name: add_queues
-- Make queues known. $1 queues.
INSERT INTO executor.queues (queue, paused)
SELECT q.queue, false FROM unnest($1::text[]) AS q (queue) ORDER BY q.queue
ON CONFLICT DO NOTHING

-- name: paused_queues
-- Read the queues that are paused.
SELECT queue, note, paused_at FROM executor.queues WHERE paused

-- name: pause_queue
-- Pause a queue; one that is paused gets the new note, if there is one. $1 queue, $2 note,
-- $3 request id (null: none); one that paused it last time does nothing.
INSERT INTO executor.queues AS q (queue, paused, note, paused_at, pause_request_id)
VALUES ($1, true, $2, now(), $3)
ON CONFLICT (queue) DO UPDATE SET
    paused = true, note = coalesce(nullif(excluded.note, ''), q.note),
    paused_at = coalesce(q.paused_at, now()), pause_request_id = excluded.pause_request_id
WHERE excluded.pause_request_id IS NULL
    OR q.pause_request_id IS DISTINCT FROM excluded.pause_request_id

-- name: reading_queues
-- Transactions under way that have read which queues are paused, and may start steps by it.
SELECT l.virtualtransaction FROM pg_locks l
WHERE l.locktype = 'relation' AND l.relation = 'executor.queues'::regclass AND l.granted
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    AND l.pid <> pg_backend_pid()

-- name: is_paused
-- Whether a queue is paused, and to be resumed. $1 queue, $2 request id (null: none); not by one
-- that resumed it last time.
SELECT EXISTS (
    SELECT FROM executor.queues
    WHERE queue = $1 AND paused AND ($2::text IS NULL OR resume_request_id IS DISTINCT FROM $2))

-- name: resume_queue
-- Resume a queue; no row means that it was not paused. $1 queue, $2 request id (null: none).
UPDATE executor.queues SET paused = false, note = '', paused_at = NULL, resume_request_id = $2
WHERE queue = $1 AND paused RETURNING queue

-- name: unpublish_queue
-- Have ready steps of a paused queue published anew: workers may have thrown away their
-- messages. $1 queue, $2 most rows. Returns how many they are.
WITH found AS MATERIALIZED (
    SELECT task_id, step_id FROM executor.steps
    WHERE state = 'READY' AND due_at IS NOT NULL AND queue = $1
    LIMIT $2 FOR UPDATE SKIP LOCKED
), unpublished AS (
    UPDATE executor.steps s SET due_at = NULL, publications = 0
    FROM found f WHERE s.task_id = f.task_id AND s.step_id = f.step_id
    RETURNING 1
)
SELECT count(*) FROM unpublished

-- name: list_workers
-- Read the worker sessions that are alive, by name.
SELECT session_id, worker, queues, slots, busy, version, started_at, expires_at, draining
FROM executor.worker_sessions WHERE expires_at > now()
ORDER BY worker, session_id

-- name: drain_worker
-- Have a worker drain. $1 session.
UPDATE executor.worker_sessions SET draining = true
WHERE session_id = $1 AND expires_at > now()
RETURNING session_id, worker, queues, slots, busy, version, started_at, expires_at, draining

-- name: open_session
-- Open a worker session, or find that it was opened by a try whose answer was lost.
-- $1 session, $2 lease, $3 worker, $4 queues, $5 slots, $6 busy slots, $7 version,
-- $8 whether it is draining.
INSERT INTO executor.worker_sessions (session_id, expires_at, worker, queues, slots, busy,
    version, draining)
VALUES ($1, now() + $2::interval, $3, $4, $5, $6, $7, $8)
ON CONFLICT (session_id) DO UPDATE SET expires_at = excluded.expires_at

-- name: renew_session
-- Renew a worker session's lease; no row means that it has run out. $1 session, $2 lease,
-- $3 busy slots.
UPDATE executor.worker_sessions SET expires_at = now() + $2::interval, busy = $3
WHERE session_id = $1 AND expires_at >= now() RETURNING draining

-- name: close_session
-- End a worker session's lease, so that what it still runs is given back at once.
-- $1 session.
UPDATE executor.worker_sessions SET expires_at = '-infinity' WHERE session_id = $1

-- name: list_failed_steps
-- List a tenant's failed steps, those of the newest tasks first. $1 tenant, $2 reason,
-- $3 queue, $4 workflow, $5 failed from, $6 failed before (null: any), $7 and $8 task and step
-- of the step behind which the page begins (null: from the newest), $9 most rows.
SELECT s.task_id, s.step_id, s.queue, coalesce(t.workflow, '') AS workflow, s.attempt,
    s.failure, s.ended_at, t.state AS task_state
FROM executor.steps s JOIN executor.tasks t ON t.task_id = s.task_id
WHERE s.state = 'FAILED' AND s.tenant_id = $1
    AND ($2::text IS NULL OR s.failure ->> 'reason' = $2)
    AND ($3::text IS NULL OR s.queue = $3)
    AND ($4::text IS NULL OR t.workflow = $4)
    AND ($5::timestamptz IS NULL OR s.ended_at >= $5)
    AND ($6::timestamptz IS NULL OR s.ended_at < $6)
    AND ($7::uuid IS NULL OR (s.task_id, s.step_id) < ($7, $8::text COLLATE "C"))
ORDER BY s.task_id DESC, s.step_id DESC
LIMIT $9

-- name: count_failed_steps
-- Count a tenant's failed steps by reason, most first. $1 to $6 as in list_failed_steps, $7
-- how many of the newest to count at most.
SELECT f.reason, count(*) AS steps
FROM (
    SELECT s.failure ->> 'reason' AS reason
    FROM executor.steps s JOIN executor.tasks t ON t.task_id = s.task_id
    WHERE s.state = 'FAILED' AND s.tenant_id = $1
        AND ($2::text IS NULL OR s.failure ->> 'reason' = $2)
        AND ($3::text IS NULL OR s.queue = $3)
        AND ($4::text IS NULL OR t.workflow = $4)
        AND ($5::timestamptz IS NULL OR s.ended_at >= $5)
        AND ($6::timestamptz IS NULL OR s.ended_at < $6)
    ORDER BY s.task_id DESC, s.step_id DESC
    LIMIT $7
) AS f
GROUP BY f.reason
ORDER BY steps DESC, f.reason

-- name: list_failed_tasks
-- List the FAILED tasks of a tenant that have a failed step of a kind, oldest first. $1 to $6
-- as in list_failed_steps, $7 task behind which to begin (null: from the oldest), $8 most
-- rows.
SELECT s.task_id
FROM executor.steps s JOIN executor.tasks t ON t.task_id = s.task_id
WHERE s.state = 'FAILED' AND s.tenant_id = $1 AND t.state = 'FAILED'
    AND ($2::text IS NULL OR s.failure ->> 'reason' = $2)
    AND ($3::text IS NULL OR s.queue = $3)
    AND ($4::text IS NULL OR t.workflow = $4)
    AND ($5::timestamptz IS NULL OR s.ended_at >= $5)
    AND ($6::timestamptz IS NULL OR s.ended_at < $6)
    AND ($7::uuid IS NULL OR s.task_id > $7)
GROUP BY s.task_id
ORDER BY s.task_id
LIMIT $8

-- name: count_failed_of_tasks
-- Count the failed steps of tasks. $1 tasks.
SELECT task_id, count(*) AS steps FROM executor.steps
WHERE task_id = ANY ($1::uuid[]) AND state = 'FAILED'
GROUP BY task_id

-- name: set_weight
-- Give a tenant a weight. $1 tenant, $2 weight.
INSERT INTO executor.tenants (tenant_id, weight) VALUES ($1, $2)
ON CONFLICT (tenant_id) DO UPDATE SET weight = excluded.weight

-- name: unset_weight
-- Have a tenant's weight be that of any other. $1 tenant.
DELETE FROM executor.tenants WHERE tenant_id = $1

-- name: list_weights
-- Tenants with a weight of their own. $1 behind this one, $2 most rows.
SELECT tenant_id, weight FROM executor.tenants WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2
