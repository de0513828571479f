-- The record of durable execution. Words as in protos/stepwire/api/executor/v1.

CREATE TYPE executor.task_state AS ENUM
    ('PENDING', 'RUNNING', 'WAITING', 'PAUSED', 'SUCCEEDED', 'FAILED', 'CANCELLED');

CREATE TYPE executor.step_state AS ENUM
    ('BLOCKED', 'READY', 'RUNNING', 'WAITING', 'SUCCEEDED', 'FAILED', 'SKIPPED', 'CANCELLED');

-- Graphs by the SHA-256 of their canonical encoding: a graph is stored once, however many
-- tasks run it. Rows never change.
CREATE TABLE executor.graphs (
    graph_hash bytea PRIMARY KEY,
    spec bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE executor.tasks (
    task_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    request_id text,
    graph_hash bytea NOT NULL,
    state executor.task_state NOT NULL DEFAULT 'PENDING',
    -- Steps without successor that have not succeeded; 0 ends the task.
    open_sinks integer NOT NULL CHECK (open_sinks >= 0),
    -- Cursor of the newest event; event 1 is the creation.
    last_cursor bigint NOT NULL DEFAULT 1,
    input bytea NOT NULL,
    input_type text NOT NULL,
    labels jsonb,
    traceparent text NOT NULL,
    failure jsonb,
    -- request_id of the RetryTask that was carried out last.
    retry_request_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    CHECK ((state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')) = (ended_at IS NOT NULL))
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX tasks_request ON executor.tasks (tenant_id, request_id)
    WHERE request_id IS NOT NULL;
CREATE INDEX tasks_by_tenant ON executor.tasks (tenant_id, task_id);
CREATE INDEX tasks_unfinished ON executor.tasks (tenant_id, state, task_id)
    WHERE state <> 'SUCCEEDED';

-- A step has a row from the moment it can start; a join has one from the start, since it
-- counts what it waits for.
CREATE TABLE executor.steps (
    task_id uuid NOT NULL,
    -- NAME, or NAME[i]; collation C so that the items of a step are one range.
    step_id text COLLATE "C" NOT NULL,
    -- Position of the step in its graph.
    ordinal integer NOT NULL,
    -- Index of the item, for the item of a for_each step.
    item integer,
    -- Number of items, for a for_each step that has started them.
    items integer,
    state executor.step_state NOT NULL,
    -- Fences every write; from 1, one more each time the step is made ready again.
    attempt integer NOT NULL DEFAULT 1,
    -- Attempts that failed by themselves, and attempts lost with a worker.
    failures integer NOT NULL DEFAULT 0,
    losses integer NOT NULL DEFAULT 0,
    -- BLOCKED: dependencies still to succeed; 0 means held, because the task has failed.
    -- WAITING: items still to succeed.
    waiting_for integer NOT NULL DEFAULT 0 CHECK (waiting_for >= 0),
    queue text NOT NULL,
    -- READY: when the sweeper publishes it again. WAITING: when the next attempt is due.
    due_at timestamptz,
    -- Times the sweeper has published this attempt.
    publications integer NOT NULL DEFAULT 0,
    -- The worker session that runs it.
    session_id uuid,
    item_input bytea,
    output bytea,
    output_type text,
    failure jsonb,
    started_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (task_id, step_id),
    CHECK ((state = 'RUNNING') = (session_id IS NOT NULL)),
    CHECK (state <> 'READY' OR due_at IS NOT NULL)
) WITH (fillfactor = 80);

-- By queue, so that a long backlog in one queue does not slow the look into the others.
CREATE INDEX steps_ready ON executor.steps (queue, due_at) WHERE state = 'READY';
CREATE INDEX steps_waiting ON executor.steps (due_at)
    WHERE state = 'WAITING' AND due_at IS NOT NULL;
CREATE INDEX steps_running ON executor.steps (session_id) WHERE state = 'RUNNING';

-- What happened, one row per task and transaction: `events` is a JSON array of
-- [type, step_id, attempt] or [type, step_id, attempt, {detail}], with the cursors
-- last_cursor - length + 1 … last_cursor. `type` is the number of the TaskEventType.
CREATE TABLE executor.task_events (
    task_id uuid NOT NULL,
    last_cursor bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    events json NOT NULL,
    PRIMARY KEY (task_id, last_cursor)
);

-- One lease per worker process.
CREATE TABLE executor.worker_sessions (
    session_id uuid PRIMARY KEY,
    worker text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
