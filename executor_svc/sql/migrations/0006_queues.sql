-- Operations: paused queues, what happened in queues of late, what workers say of themselves.

-- Queues that an executor is, or was, set up with: steps that are added at run time wait in one
-- of these. One without a row is active. Claims, and whatever else starts or publishes steps,
-- leave the steps of a paused queue as they are.
CREATE TABLE executor.queues (
    queue text PRIMARY KEY,
    paused boolean NOT NULL,
    -- Why, or by whom; empty while the queue is active.
    note text NOT NULL DEFAULT '',
    -- Since when it is paused.
    paused_at timestamptz,
    -- request_ids of the calls that have paused and resumed it last.
    pause_request_id text,
    resume_request_id text,
    CHECK (paused = (paused_at IS NOT NULL))
);

-- What happened in queues, in spans of 10 seconds, over all processes: each adds its own
-- counts every few seconds. Rows are kept for an hour.
CREATE TABLE executor.queue_stats (
    -- Beginning of the span.
    bucket timestamptz NOT NULL,
    queue text NOT NULL,
    -- Steps that became ready; attempts that were claimed; attempts that ended, and those of
    -- them that failed.
    arrived bigint NOT NULL,
    started bigint NOT NULL,
    finished bigint NOT NULL,
    failed bigint NOT NULL,
    -- From ready to start, over all that started; for which slots were held, over all that
    -- ended.
    wait_seconds double precision NOT NULL,
    busy_seconds double precision NOT NULL,
    PRIMARY KEY (bucket, queue)
) WITH (fillfactor = 50);

-- What a worker says of itself when it opens its session, and with each renewal: `busy`.
-- `draining` is what it reads back: it then starts no further step.
ALTER TABLE executor.worker_sessions
    ADD COLUMN queues text[] NOT NULL DEFAULT '{}',
    ADD COLUMN slots integer NOT NULL DEFAULT 0,
    ADD COLUMN busy integer NOT NULL DEFAULT 0,
    ADD COLUMN version text NOT NULL DEFAULT '',
    ADD COLUMN draining boolean NOT NULL DEFAULT false;

-- Counting by queue reads the indexes alone.
DROP INDEX executor.steps_published;
CREATE INDEX steps_published ON executor.steps (queue, due_at) INCLUDE (ready_at)
    WHERE state = 'READY' AND due_at IS NOT NULL;
DROP INDEX executor.steps_unpublished;
CREATE INDEX steps_unpublished ON executor.steps (queue, priority, tenant_id, task_id)
    INCLUDE (ready_at) WHERE state = 'READY' AND due_at IS NULL;
DROP INDEX executor.steps_waiting;
CREATE INDEX steps_waiting ON executor.steps (due_at) INCLUDE (queue)
    WHERE state = 'WAITING' AND due_at IS NOT NULL;
DROP INDEX executor.steps_running;
CREATE INDEX steps_running ON executor.steps (session_id) INCLUDE (queue)
    WHERE state = 'RUNNING';
