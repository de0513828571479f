-- Schedules: tasks that are created again and again, at the times of a cron expression.

CREATE TYPE executor.overlap_policy AS ENUM ('SKIP', 'BUFFER_ONE', 'ALLOW', 'CANCEL_OTHER');

CREATE TABLE executor.schedules (
    schedule_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    name text COLLATE "C" NOT NULL,
    cron text NOT NULL,
    time_zone text NOT NULL,
    -- The encoded CreateTaskRequest of its tasks.
    task bytea NOT NULL,
    overlap executor.overlap_policy NOT NULL,
    catch_up_window interval NOT NULL,
    max_catch_up integer NOT NULL CHECK (max_catch_up >= 1),
    start_at timestamptz,
    end_at timestamptz,
    jitter interval NOT NULL,
    paused boolean NOT NULL,
    note text NOT NULL,
    -- One more with each change by its owner.
    revision bigint NOT NULL DEFAULT 1,
    -- The first firing that has not been carried out, and the same with its jitter; NULL
    -- while it is paused, and when there is none any more.
    next_at timestamptz,
    due_at timestamptz,
    last_task_id uuid,
    -- The firing that waits for the end of last_task_id.
    buffered_at timestamptz,
    -- What became of the last firings, newest first: an array of objects.
    recent json NOT NULL DEFAULT '[]',
    -- Who carries out a firing, and until when nobody else may.
    held_by uuid,
    held_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name),
    CHECK ((next_at IS NULL) = (due_at IS NULL)),
    CHECK (next_at <= due_at),
    CHECK (NOT paused OR (next_at IS NULL AND buffered_at IS NULL)),
    CHECK (buffered_at IS NULL OR overlap = 'BUFFER_ONE')
) WITH (fillfactor = 70);

-- Those that are paused or over are in neither.
CREATE INDEX schedules_due ON executor.schedules (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX schedules_buffered ON executor.schedules (last_task_id)
    WHERE buffered_at IS NOT NULL;

-- Which call was made with a request_id, so that a repeated one changes nothing. `digest` is
-- the SHA-256 of what was asked for; `run` is what a trigger has come to, whose nominal time is
-- `created_at`.
CREATE TABLE executor.schedule_requests (
    tenant_id text NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    schedule_id uuid NOT NULL,
    run json,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);
CREATE INDEX schedule_requests_old ON executor.schedule_requests (created_at);
