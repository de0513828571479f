-- The record of durable execution. Words as in protos/stepwire/api/executor/v1.
--
-- The tables that grow with the work are partitioned by task_id: a UUIDv7 begins with its
-- time, so a range of ids is a span of time, and what is old is dropped as whole
-- partitions. Rows for which no partition was made ahead lie in the default one.

CREATE TYPE executor.task_state AS ENUM
    ('PENDING', 'RUNNING', 'WAITING', 'PAUSED', 'SUCCEEDED', 'FAILED', 'CANCELLED');

CREATE TYPE executor.step_state AS ENUM
    ('BLOCKED', 'READY', 'RUNNING', 'WAITING', 'SUCCEEDED', 'FAILED', 'SKIPPED', 'CANCELLED');

-- Graphs by the SHA-256 of their canonical encoding: a graph is stored once, however many
-- tasks run it. Hash and spec never change.
CREATE TABLE executor.graphs (
    graph_hash bytea PRIMARY KEY,
    spec bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- When somebody last said that tasks will run it, give or take a day: before those tasks
    -- are written. It says which graphs may go (migrations/0008).
    used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX graphs_used ON executor.graphs (used_at);

-- Which task a request_id has made. `digest` is the SHA-256 of what was asked for.
CREATE TABLE executor.requests (
    tenant_id text NOT NULL,
    request_id text NOT NULL,
    task_id uuid NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
);
CREATE INDEX requests_by_task ON executor.requests (task_id);

-- No index holds a column that changes while a task goes well, so that its updates stay
-- within their page. The state WAITING is found when a task is read; it is stored only of a
-- task that was retried and waits for its concurrency key, since that has steps which wait.
CREATE TABLE executor.tasks (
    task_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    graph_hash bytea NOT NULL,
    state executor.task_state NOT NULL DEFAULT 'PENDING',
    -- A copy of `state` where people look for it: PAUSED, FAILED or CANCELLED.
    mark executor.task_state,
    -- Steps without successor that have neither succeeded nor been skipped; 0 ends the task.
    open_sinks integer NOT NULL CHECK (open_sinks >= 0),
    -- Cursor of the newest event; event 1 is the creation.
    last_cursor bigint NOT NULL DEFAULT 1,
    -- What its end means for others, and what its graph asks for, as a sum of
    --    1 a step of another task waits for it       2 it has a concurrency key
    --    4 the tenant has subscriptions              8 it may have, or has had, subtasks
    --   16 steps may be left over when it ends      32 it has compensations
    traits integer NOT NULL DEFAULT 0,
    priority smallint NOT NULL DEFAULT 5,
    -- NULL where the input is kept in `payloads` under the empty key.
    input bytea,
    input_type text NOT NULL,
    labels jsonb,
    traceparent text NOT NULL,
    workflow text,
    workflow_version text,
    -- Why it failed; set with state RUNNING while its compensations run.
    failure jsonb,
    -- request_ids of the RetryTask, PauseTask and ResumeTask that were carried out last.
    retry_request_id text,
    pause_request_id text,
    resume_request_id text,
    parent_task_id uuid,
    parent_step_id text COLLATE "C",
    -- How many tasks above it are parents or the cause of it.
    depth smallint NOT NULL DEFAULT 0,
    forked_from uuid,
    -- When it fails if it has not ended, and how long it may last from a start or a retry on.
    deadline timestamptz,
    timeout interval,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    CHECK ((state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')) = (ended_at IS NOT NULL))
) PARTITION BY RANGE (task_id);
CREATE TABLE executor.tasks_default PARTITION OF executor.tasks DEFAULT
    WITH (fillfactor = 70);

CREATE INDEX tasks_by_tenant ON executor.tasks (tenant_id, task_id);
-- Subtasks; which of them are open the rows tell.
CREATE INDEX tasks_by_parent ON executor.tasks (parent_task_id, parent_step_id)
    WHERE parent_task_id IS NOT NULL;
CREATE INDEX tasks_by_workflow ON executor.tasks (tenant_id, workflow, task_id)
    WHERE workflow IS NOT NULL;
CREATE INDEX tasks_marked ON executor.tasks (tenant_id, mark, task_id) WHERE mark IS NOT NULL;

-- Tasks with a deadline that may still come.
CREATE TABLE executor.deadlines (
    task_id uuid PRIMARY KEY,
    deadline timestamptz NOT NULL
);
CREATE INDEX deadlines_due ON executor.deadlines (deadline);

-- A step has a row from the moment it can start; a join has one from the start, since it
-- counts what it waits for.
CREATE TABLE executor.steps (
    task_id uuid NOT NULL,
    -- NAME, NAME[i] for an item, PARENT/… for a step that PARENT has added; collation C, so
    -- that the items and the children of a step are one range each. What begins with ~ is
    -- part of the task's compensation.
    step_id text COLLATE "C" NOT NULL,
    -- Position of the step in its graph.
    ordinal integer NOT NULL,
    -- Index of the item, for the item of a for_each step.
    item integer,
    -- Number of items or added sinks, for a step that has started them.
    items integer,
    -- Items let go so far, for a step that bounds how many run at once.
    released integer,
    -- The step that added this one, and the graph it is a step of; NULL: the task's own.
    scope text COLLATE "C",
    graph_hash bytea,
    -- The graph that it has added itself; its input is in `inbox`.
    added_graph bytea,
    state executor.step_state NOT NULL,
    -- 0 before its first run, 1 while it has its place under its limit, 2 when what it
    -- waited for has come, 3 when its join cannot be satisfied, 4 when its schedule_to_close
    -- is over.
    phase smallint NOT NULL DEFAULT 0,
    -- Fences every write; from 1, one more for each try.
    attempt integer NOT NULL DEFAULT 1,
    -- Attempts that failed by themselves, and attempts lost with a worker.
    failures integer NOT NULL DEFAULT 0,
    losses integer NOT NULL DEFAULT 0,
    -- BLOCKED, or WAITING for items or steps: how many must still succeed, and how many have
    -- not ended. Both 0 while BLOCKED means held: the task has failed, or is paused, or waits
    -- for its concurrency key.
    needs integer NOT NULL DEFAULT 0 CHECK (needs >= 0),
    open integer NOT NULL DEFAULT 0 CHECK (open >= 0),
    tenant_id text NOT NULL,
    queue text NOT NULL,
    priority smallint NOT NULL,
    -- READY: when its message is sent again; NULL until it is sent first. WAITING: when the
    -- wait ends; NULL when no time ends it.
    due_at timestamptz,
    -- WAITING: for what; see StepRun.waits_for.
    waits_for text,
    -- Times the sweeper has published this attempt.
    publications smallint NOT NULL DEFAULT 0,
    -- The worker session that runs it.
    session_id uuid,
    item_input bytea,
    -- What it waited for, as JSON: a signal's payload; or the input of the graph it has added.
    inbox bytea,
    -- NULL with a type where the output is kept in `payloads`.
    output bytea,
    output_type text,
    failure jsonb,
    heartbeat bytea,
    ready_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    -- Its schedule_to_close, and when that ends, counted from when it is first ready.
    lifetime interval,
    expires_at timestamptz,
    -- Whether it has FAILED without failing its task.
    tolerated boolean NOT NULL DEFAULT false,
    PRIMARY KEY (task_id, step_id),
    CHECK ((state = 'RUNNING') = (session_id IS NOT NULL)),
    CHECK ((state = 'WAITING') = (waits_for IS NOT NULL))
) PARTITION BY RANGE (task_id);
CREATE TABLE executor.steps_default PARTITION OF executor.steps DEFAULT
    WITH (fillfactor = 70);

CREATE INDEX steps_published ON executor.steps (queue, due_at)
    WHERE state = 'READY' AND due_at IS NOT NULL;
CREATE INDEX steps_unpublished ON executor.steps (queue, priority, tenant_id, task_id)
    WHERE state = 'READY' AND due_at IS NULL;
CREATE INDEX steps_waiting ON executor.steps (due_at)
    WHERE state = 'WAITING' AND due_at IS NOT NULL;
-- Those whose wait no time ends; the tasks that wait are found by both.
CREATE INDEX steps_idle ON executor.steps (tenant_id, task_id)
    WHERE state = 'WAITING' AND due_at IS NULL;
CREATE INDEX steps_running ON executor.steps (session_id) WHERE state = 'RUNNING';
-- Steps that wait for a worker, and may do so only until then.
CREATE INDEX steps_expiring ON executor.steps (expires_at)
    WHERE state = 'READY' AND expires_at IS NOT NULL;
CREATE INDEX steps_failed ON executor.steps (tenant_id, task_id) WHERE state = 'FAILED';

-- Inputs and outputs too large for the rows above.
CREATE TABLE executor.payloads (
    task_id uuid NOT NULL,
    -- A step's id; empty for the task's input.
    step_id text COLLATE "C" NOT NULL,
    -- The attempt that gave it; 0 for the task's input.
    attempt integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (task_id, step_id, attempt)
) PARTITION BY RANGE (task_id);
CREATE TABLE executor.payloads_default PARTITION OF executor.payloads DEFAULT;
ALTER TABLE executor.payloads ALTER COLUMN data SET STORAGE EXTERNAL;

-- Signals sent to a task. `taken_by` is the step that has taken it.
CREATE TABLE executor.signals (
    task_id uuid NOT NULL,
    signal_id bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    payload bytea NOT NULL,
    request_id text,
    taken_by text COLLATE "C",
    sent_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, signal_id)
);
CREATE UNIQUE INDEX signals_request ON executor.signals (task_id, request_id)
    WHERE request_id IS NOT NULL;

-- What happened, one row per task and transaction: `events` is a JSON array of
-- [type, step_id, attempt] or [type, step_id, attempt, {detail}], with the cursors
-- last_cursor - length + 1 … last_cursor. `type` is the number of the TaskEventType.
CREATE TABLE executor.task_events (
    task_id uuid NOT NULL,
    last_cursor bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    events text NOT NULL,
    PRIMARY KEY (task_id, last_cursor)
) PARTITION BY RANGE (task_id);
CREATE TABLE executor.task_events_default PARTITION OF executor.task_events DEFAULT;

-- One lease per worker process.
CREATE TABLE executor.worker_sessions (
    session_id uuid PRIMARY KEY,
    worker text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

-- Limits, by tenant and key: concurrency keys of tasks and limits of steps. A row's lock
-- decides who gets a place; it is taken before the locks of tasks.
CREATE TABLE executor.limits (
    tenant_id text NOT NULL,
    key text NOT NULL,
    -- When the next start is due if starts come evenly (GCRA's theoretical arrival time).
    next_start timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant_id, key)
);

-- Who has a place under a limit: a step, or with an empty step_id a task. A place belongs to
-- the step, not to an attempt, so that a step whose worker died has it still.
CREATE TABLE executor.limit_holders (
    tenant_id text NOT NULL,
    key text NOT NULL,
    task_id uuid NOT NULL,
    step_id text COLLATE "C" NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key, task_id, step_id)
);
CREATE INDEX limit_holders_by_task ON executor.limit_holders (task_id);

-- Who waits for a place, and under which figures. `policy` is the number of the
-- ConcurrencyPolicy; 1 for steps.
CREATE TABLE executor.limit_waiters (
    tenant_id text NOT NULL,
    key text NOT NULL,
    priority smallint NOT NULL,
    place bigint GENERATED ALWAYS AS IDENTITY,
    task_id uuid NOT NULL,
    step_id text COLLATE "C" NOT NULL,
    policy smallint NOT NULL,
    max_running integer NOT NULL,
    max_starts integer NOT NULL DEFAULT 0,
    period interval NOT NULL DEFAULT '1 second',
    PRIMARY KEY (tenant_id, key, priority, place),
    UNIQUE (task_id, step_id)
);

-- A tenant's tasks from p_lower to before p_upper that are PENDING or RUNNING (p_waiting:
-- WAITING), and some others, found by what of their steps is alive; NULL when more than p_most
-- of these, of whatever tenant, would have to be looked at.
--
-- No index says which tasks have not ended: it would have to hold a column that each end of a
-- task changes. Every step that goes on is in one of these indexes anyway.
CREATE FUNCTION executor.alive_v1(
    p_tenant_id text, p_lower uuid, p_upper uuid, p_waiting boolean, p_most integer
) RETURNS uuid[] LANGUAGE sql STABLE
SET enable_seqscan = off AS $$
    WITH seen AS MATERIALIZED (
        SELECT * FROM (
            SELECT s.tenant_id, s.task_id FROM executor.steps s
            WHERE NOT p_waiting AND s.state = 'RUNNING'
            UNION ALL
            SELECT s.tenant_id, s.task_id FROM executor.steps s
            WHERE NOT p_waiting AND s.state = 'READY' AND s.due_at IS NOT NULL
            UNION ALL
            SELECT s.tenant_id, s.task_id FROM executor.steps s
            WHERE NOT p_waiting AND s.state = 'READY' AND s.due_at IS NULL
            UNION ALL
            SELECT s.tenant_id, s.task_id FROM executor.steps s
            WHERE p_waiting AND s.state = 'WAITING' AND s.due_at IS NOT NULL
            UNION ALL
            SELECT s.tenant_id, s.task_id FROM executor.steps s
            WHERE p_waiting AND s.state = 'WAITING' AND s.due_at IS NULL
                AND s.tenant_id = p_tenant_id
            UNION ALL
            -- All steps of a task that waits for its concurrency key are held.
            SELECT w.tenant_id, w.task_id FROM executor.limit_waiters w
            WHERE p_waiting AND w.tenant_id = p_tenant_id AND w.step_id = ''
        ) AS a
        LIMIT p_most + 1
    )
    SELECT CASE WHEN count(*) <= p_most THEN coalesce(array_agg(DISTINCT s.task_id) FILTER (
        WHERE s.tenant_id = p_tenant_id AND s.task_id >= p_lower AND s.task_id < p_upper
    ), '{}') END FROM seen s;
$$;

-- Tasks with the state that is shown: WAITING is derived, of one of which no step can run now.
CREATE VIEW executor.shown_tasks AS
SELECT t.*, CASE WHEN t.state IN ('PENDING', 'RUNNING') AND NOT EXISTS (
        SELECT FROM executor.steps s
        WHERE s.task_id = t.task_id AND s.state IN ('READY', 'RUNNING'))
    THEN 'WAITING' ELSE t.state END::executor.task_state AS shown
FROM executor.tasks t;

-- The first p_limit tasks of a tenant's workflow from p_lower to before p_upper, newest first or
-- oldest first, of one state and version and with some labels (NULL: any).
--
-- It is planned for each call: whether to go through the tasks of a workflow, or through all, is
-- another question for one that is rare than for one that most tasks run.
CREATE FUNCTION executor.workflow_tasks_v1(
    p_tenant_id text, p_lower uuid, p_upper uuid, p_state executor.task_state, p_labels jsonb,
    p_workflow text, p_version text, p_limit integer, p_newest boolean
) RETURNS SETOF executor.shown_tasks LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE 'SELECT t.* FROM executor.shown_tasks t
        WHERE t.tenant_id = $1 AND t.task_id >= $2 AND t.task_id < $3 AND t.workflow = $6
            AND ($4 IS NULL OR t.shown = $4)
            AND ($5 IS NULL OR t.labels @> $5)
            AND ($7 IS NULL OR t.workflow_version = $7)
        ORDER BY t.task_id ' || CASE WHEN p_newest THEN 'DESC' ELSE 'ASC' END || ' LIMIT $8'
    USING p_tenant_id, p_lower, p_upper, p_state, p_labels, p_workflow, p_version, p_limit;
END
$$;
