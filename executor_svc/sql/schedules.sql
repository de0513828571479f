-- Statements of schedules.

-- name: schedule_clock
-- Read the time by which everything is decided.
SELECT now()

-- name: add_schedule
-- Add a schedule; no row when the name is taken or the tenant has too many. $1 id,
-- $2 tenant, $3 name, $4 cron, $5 time zone, $6 task, $7 overlap policy, $8 catch-up window,
-- $9 most firings made up for, $10 start, $11 end, $12 jitter, $13 whether paused, $14 note,
-- $15 next firing, $16 the same with its jitter, $17 most of a tenant.
INSERT INTO executor.schedules (schedule_id, tenant_id, name, cron, time_zone, task, overlap,
    catch_up_window, max_catch_up, start_at, end_at, jitter, paused, note, next_at, due_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16
WHERE (SELECT count(*) FROM executor.schedules WHERE tenant_id = $2) < $17
ON CONFLICT (tenant_id, name) DO NOTHING
RETURNING *

-- name: find_schedule
-- Read a schedule by name. $1 tenant, $2 name.
SELECT * FROM executor.schedules WHERE tenant_id = $1 AND name = $2

-- name: get_schedule
-- Read a schedule by id. $1 tenant, $2 id.
SELECT * FROM executor.schedules WHERE tenant_id = $1 AND schedule_id = $2

-- name: list_schedules
-- List a tenant's schedules by name, without what lists leave out. $1 tenant, $2 behind this
-- name, $3 most rows.
SELECT schedule_id, tenant_id, name, cron, time_zone, ''::bytea AS task, overlap,
    catch_up_window, max_catch_up, start_at, end_at, jitter, paused, note, revision, next_at,
    due_at, last_task_id, buffered_at, '[]'::json AS recent, created_at, updated_at
FROM executor.schedules
WHERE tenant_id = $1 AND name > $2
ORDER BY name
LIMIT $3

-- name: lock_schedule
-- Read a schedule by name and keep others from changing it. $1 tenant, $2 name.
SELECT *, clock_timestamp() AS now, coalesce(held_until > clock_timestamp(), false) AS held
FROM executor.schedules WHERE tenant_id = $1 AND name = $2
FOR UPDATE

-- name: write_schedule
-- Write what its owner can change of a schedule that nobody holds; who has held it for too
-- long cannot write over it. $1 id, $2 cron, $3 time zone, $4 task,
-- $5 overlap policy, $6 catch-up window, $7 most firings made up for, $8 start, $9 end,
-- $10 jitter, $11 whether paused, $12 note, $13 next firing, $14 the same with its jitter,
-- $15 buffered firing, $16 recent runs.
UPDATE executor.schedules
SET cron = $2, time_zone = $3, task = $4, overlap = $5, catch_up_window = $6,
    max_catch_up = $7, start_at = $8, end_at = $9, jitter = $10, paused = $11, note = $12,
    next_at = $13, due_at = $14, buffered_at = $15, recent = $16, revision = revision + 1,
    updated_at = now(), held_by = NULL, held_until = NULL
WHERE schedule_id = $1
RETURNING *

-- name: delete_schedule
-- Delete a schedule. $1 id.
DELETE FROM executor.schedules WHERE schedule_id = $1

-- name: take_due_schedules
-- Take for some time schedules that nobody holds and that have a firing due, or one that
-- has waited for a task that has ended. $1 holder, $2 how long, $3 most of either kind.
WITH due AS (
    SELECT schedule_id, held_by IS NOT NULL AS lost FROM executor.schedules
    WHERE due_at <= now() AND (held_until <= now()) IS NOT FALSE
    ORDER BY due_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
), freed AS (
    SELECT s.schedule_id, s.held_by IS NOT NULL AS lost FROM executor.schedules s
    WHERE s.buffered_at IS NOT NULL AND (s.held_until <= now()) IS NOT FALSE
        AND NOT EXISTS (
            SELECT FROM executor.tasks t
            WHERE t.task_id = s.last_task_id AND t.ended_at IS NULL)
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
UPDATE executor.schedules s
SET held_by = $1, held_until = now() + $2::interval
FROM (SELECT * FROM due UNION SELECT * FROM freed) AS f
WHERE s.schedule_id = f.schedule_id
RETURNING s.*, f.lost, now() AS now, EXISTS (
    SELECT FROM executor.tasks t
    WHERE t.task_id = s.last_task_id AND t.ended_at IS NULL) AS running

-- name: take_schedule
-- Take a schedule for some time; no row when somebody else holds it, or there is none.
-- $1 tenant, $2 name, $3 holder, $4 how long.
WITH free AS (
    SELECT schedule_id, held_by IS NOT NULL AS lost FROM executor.schedules
    WHERE tenant_id = $1 AND name = $2 AND (held_until <= now()) IS NOT FALSE
    FOR UPDATE
)
UPDATE executor.schedules s
SET held_by = $3, held_until = now() + $4::interval
FROM free f
WHERE s.schedule_id = f.schedule_id
RETURNING s.*, f.lost, now() AS now, EXISTS (
    SELECT FROM executor.tasks t
    WHERE t.task_id = s.last_task_id AND t.ended_at IS NULL) AS running

-- name: begun_firings
-- Read which firings of a schedule have tasks, by the request_ids of these. $1 tenant, $2 from
-- this request_id, $3 to before this one, $4 or this one.
SELECT request_id, task_id FROM executor.requests
WHERE tenant_id = $1 AND (request_id >= $2 AND request_id < $3 OR request_id = $4)

-- name: record_firings
-- Write what became of firings and give the schedules back; those that are held by others
-- by now are passed over. $1 ids, $2 holders, $3 next firings, $4 the same with their
-- jitter, $5 last tasks, $6 buffered firings, $7 recent runs.
UPDATE executor.schedules s
SET next_at = f.next_at, due_at = f.due_at, last_task_id = f.last_task_id,
    buffered_at = f.buffered_at, recent = f.recent, held_by = NULL, held_until = NULL
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::uuid[],
    $6::timestamptz[], $7::json[])
    AS f (schedule_id, held_by, next_at, due_at, last_task_id, buffered_at, recent)
WHERE s.schedule_id = f.schedule_id AND s.held_by = f.held_by
RETURNING s.schedule_id

-- name: put_back_schedules
-- Give schedules back as they were, to be taken again after a pause. $1 ids, $2 holders,
-- $3 how long nobody takes them.
UPDATE executor.schedules s
SET held_by = NULL, held_until = now() + $3::interval
FROM unnest($1::uuid[], $2::uuid[]) AS f (schedule_id, held_by)
WHERE s.schedule_id = f.schedule_id AND s.held_by = f.held_by

-- name: until_due_schedule
-- Read how long it is until the next firing of a schedule that nobody holds.
SELECT due_at - now() FROM executor.schedules
WHERE due_at IS NOT NULL AND (held_until <= now()) IS NOT FALSE
ORDER BY due_at
LIMIT 1

-- name: awaited_tasks
-- Read for the ends of which tasks firings wait.
SELECT last_task_id FROM executor.schedules
WHERE buffered_at IS NOT NULL AND last_task_id IS NOT NULL

-- name: add_schedule_request
-- Remember a call; no row when its request_id is known. $1 tenant, $2 request id, $3 digest,
-- $4 schedule.
INSERT INTO executor.schedule_requests (tenant_id, request_id, digest, schedule_id)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
RETURNING true

-- name: find_schedule_request
-- Read the call that was made with a request_id. $1 tenant, $2 request id, $3 how long one is
-- remembered.
SELECT digest, schedule_id, run, created_at FROM executor.schedule_requests
WHERE tenant_id = $1 AND request_id = $2 AND created_at >= now() - $3::interval

-- name: end_trigger
-- Write what a trigger has come to. $1 tenant, $2 request id, $3 run.
UPDATE executor.schedule_requests SET run = $3 WHERE tenant_id = $1 AND request_id = $2

-- name: forget_schedule_requests
-- Forget calls that were made long ago. $1 how long.
DELETE FROM executor.schedule_requests WHERE created_at < now() - $1::interval
