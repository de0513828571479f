-- Notices, and subscriptions to the events of tasks.

-- What the end of a task means for something else, written in the transaction that ends it
-- and deleted when it is carried out (relay.py). The payload is the kind's affair.
CREATE TABLE executor.notices (
    notice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    tenant_id text NOT NULL,
    task_id uuid NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Times that it has failed, and when it is tried (again).
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now()
    -- Rows live for milliseconds: what matters is how many have gone, not which share.
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX notices_due ON executor.notices (due_at, notice_id);

-- Take notices of some kinds that are due, in order; they stay locked until the
-- transaction ends.
CREATE FUNCTION executor.take_notices_v1(p_kinds text[], p_limit integer)
RETURNS SETOF executor.notices LANGUAGE sql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
    SELECT * FROM executor.notices n
    WHERE n.due_at <= now() AND n.kind = ANY (p_kinds)
    ORDER BY n.due_at, n.notice_id
    LIMIT p_limit
    FOR UPDATE SKIP LOCKED;
$$;

-- Delete notices that are carried out, and postpone others: by how much, and whether they
-- were tried (1) or only stand behind one that was (0).
CREATE FUNCTION executor.finish_notices_v1(
    p_done bigint[], p_postponed bigint[], p_by interval[], p_tried integer[]
) RETURNS void LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    DELETE FROM executor.notices n WHERE n.notice_id = ANY (p_done);
    -- From the clock, and not from the beginning of the transaction, which is long ago.
    UPDATE executor.notices n
    SET due_at = clock_timestamp() + r.by, attempts = n.attempts + r.tried
    FROM unnest(p_postponed, p_by, p_tried) AS r (notice_id, by, tried)
    WHERE n.notice_id = r.notice_id;
$$;

CREATE TABLE executor.subscriptions (
    subscription_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- Numbers of TaskEventTypes.
    events integer[] NOT NULL,
    labels jsonb NOT NULL,
    -- Empty: any.
    workflow text NOT NULL,
    -- A webhook: where, and the keys of its signatures.
    url text,
    key bytea,
    key_made_at timestamptz,
    previous_key bytea,
    previous_until timestamptz,
    -- A handler: an encoded CreateTaskRequest.
    handler bytea,
    include_output boolean NOT NULL,
    paused boolean NOT NULL,
    -- Empty, unless the server has paused it.
    paused_because text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name),
    CHECK ((url IS NULL) = (handler IS NOT NULL)),
    CHECK ((url IS NULL) = (key IS NULL) AND (url IS NULL) = (key_made_at IS NULL)),
    CHECK ((previous_key IS NULL) = (previous_until IS NULL)),
    CHECK (paused OR paused_because = '')
);

-- Which call was made with a request_id, so that a repeated one changes nothing. `digest` is
-- the SHA-256 of what was asked for.
CREATE TABLE executor.subscription_requests (
    tenant_id text NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    subscription_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);
