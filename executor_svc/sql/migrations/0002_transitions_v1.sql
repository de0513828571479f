-- The transitions of tasks and steps, one function each, so that a batch of them costs
-- one round trip.
--
-- Rules that hold in all of them:
-- * Locks are taken in one order: limits by key, then tasks by task_id. Whoever holds a
--   task's lock alone changes the task, its events, and its steps, but for claims: a claim
--   takes READY steps without it, and passes over rows that somebody else has in hand.
-- * A step is written only by the attempt and session that run it. Whether that session is
--   alive is nobody's concern here: steps that run for a session without a lease are found
--   by lose_orphans_v1.
-- * Events are numbered under the task's lock, so a task's cursors have no gap.
-- * What ends a task changes no other task: it leaves notices.
-- * A subtask is made under the lock of its parent, by an attempt that runs. So whoever ends
--   the attempt sees the subtask, or nobody makes it any more.
--
-- Event types are the numbers of TaskEventType. Step ids hold only [a-z0-9_/~] and
-- brackets, so they need no escaping in JSON.
--
-- The planner would choose by statistics of tables that grow and shrink by the second, and
-- are empty at first; each function says that its tables are to be reached by their
-- indexes. Where a step is known by its primary key, `state::text` keeps the planner from
-- the partial indexes by state, which are for finding steps.

-- What a worker must know of a step that a settlement started for it.
CREATE TYPE executor.started AS (
    ordinal integer,
    item integer,
    items integer,
    failures integer,
    losses integer,
    phase smallint,
    item_input bytea,
    inbox bytea,
    heartbeat bytea,
    scope text,
    scope_graph bytea,
    scope_input bytea,
    added_graph bytea,
    expires_at timestamptz
);

-- What a transition tells its caller, one row per fact:
--   ACCEPTED accepted                 places (1-based) of the settlements that were recorded
--   STARTED  task_id step_id attempt started    a step that the session runs from here on
--   READY    task_id step_id attempt queue    a step to publish
--   EVENTS   task_id last_cursor recorded_at events    events to publish
--   RELEASED tenant_id key            a limit under which a place has become free
--   NOTICES                           there are notices to carry out
CREATE TYPE executor.fact AS (
    kind text,
    accepted integer[],
    task_id uuid,
    step_id text,
    attempt integer,
    queue text,
    started executor.started,
    last_cursor bigint,
    recorded_at timestamptz,
    events text,
    tenant_id text,
    key text
);

CREATE FUNCTION executor.ready_fact(
    p_task_id uuid, p_step_id text, p_attempt integer, p_queue text
) RETURNS executor.fact LANGUAGE sql IMMUTABLE AS $$
    SELECT ('READY', NULL, p_task_id, p_step_id, p_attempt, p_queue, NULL, NULL, NULL, NULL,
        NULL, NULL)::executor.fact
$$;

CREATE FUNCTION executor.events_fact(p_task_id uuid, p_last_cursor bigint, p_events text)
RETURNS executor.fact LANGUAGE sql STABLE AS $$
    SELECT ('EVENTS', NULL, p_task_id, NULL, NULL, NULL, NULL, p_last_cursor, now(), p_events,
        NULL, NULL)::executor.fact
$$;

CREATE FUNCTION executor.released_fact(p_tenant_id text, p_key text)
RETURNS executor.fact LANGUAGE sql IMMUTABLE AS $$
    SELECT ('RELEASED', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        p_tenant_id, p_key)::executor.fact
$$;

CREATE FUNCTION executor.notices_fact() RETURNS executor.fact LANGUAGE sql IMMUTABLE AS $$
    SELECT ('NOTICES', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
        )::executor.fact
$$;

-- Whether steps of a task may start. While a task is compensated, only what compensates it
-- may.
CREATE FUNCTION executor.is_live(
    p_state executor.task_state, p_failure jsonb, p_step_id text
) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT p_state IN ('PENDING', 'RUNNING')
        AND (p_failure IS NULL OR p_step_id COLLATE "C" >= '~')
$$;

-- Lock tasks, in the order that all follow.
CREATE FUNCTION executor.lock_tasks(p_task_ids uuid[]) RETURNS void LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT 1 FROM executor.tasks t
    WHERE t.task_id = ANY (p_task_ids) ORDER BY t.task_id FOR NO KEY UPDATE;
$$;

-- Hold tasks while attempts of their steps make subtasks, and mark them as parents. Fails with
-- 55000, and in its detail the places (1-based) of the attempts that do not run any more, or
-- whose task nobody goes on with.
CREATE FUNCTION executor.hold_parents_v1(
    p_task_ids uuid[], p_step_ids text[], p_attempts integer[]
) RETURNS void STRICT LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_over bigint[];
BEGIN
    PERFORM executor.lock_tasks(p_task_ids);
    SELECT array_agg(r.place ORDER BY r.place) INTO v_over
    FROM unnest(p_task_ids, p_step_ids, p_attempts)
        WITH ORDINALITY AS r (task_id, step_id, attempt, place)
    WHERE NOT EXISTS (
        SELECT FROM executor.steps s JOIN executor.tasks t ON t.task_id = s.task_id
        WHERE s.task_id = r.task_id AND s.step_id = r.step_id AND s.attempt = r.attempt
            AND s.state::text = 'RUNNING'
            AND (t.ended_at IS NULL OR (t.state = 'FAILED' AND (t.traits & 32) = 0)));
    IF v_over IS NOT NULL THEN
        RAISE EXCEPTION 'attempts that make subtasks do not run any more'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                DETAIL = array_to_string(v_over, ',');
    END IF;
    -- What a step has added may make them, too.
    UPDATE executor.tasks t SET traits = t.traits | 8
    WHERE t.task_id = ANY (p_task_ids) AND (t.traits & 8) = 0;
END
$$;

-- Have the open subtasks of tasks cancelled, or (p_step_ids) those of steps of them: nobody
-- waits for them any more, nor will another attempt find them. The caller holds the tasks'
-- locks.
CREATE FUNCTION executor.abandon_v1(p_task_ids uuid[], p_step_ids text[] DEFAULT NULL)
RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_parents uuid[];
    v_children uuid[];
BEGIN
    IF p_step_ids IS NULL THEN
        SELECT array_agg(c.parent_task_id), array_agg(c.task_id) INTO v_parents, v_children
        FROM unnest(p_task_ids) AS r (task_id)
        JOIN executor.tasks c ON c.parent_task_id = r.task_id
        WHERE c.ended_at IS NULL;
    ELSE
        SELECT array_agg(c.parent_task_id), array_agg(c.task_id) INTO v_parents, v_children
        FROM unnest(p_task_ids, p_step_ids) AS r (task_id, step_id)
        JOIN executor.tasks c ON c.parent_task_id = r.task_id AND c.parent_step_id = r.step_id
        WHERE c.ended_at IS NULL;
    END IF;
    IF v_children IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM executor.requests q WHERE q.task_id = ANY (v_children);
    INSERT INTO executor.notices (kind, tenant_id, task_id, payload)
    SELECT 'cancel_child', t.tenant_id, a.parent, jsonb_build_object('child', a.child)
    FROM unnest(v_parents, v_children) AS a (parent, child)
    JOIN executor.tasks t ON t.task_id = a.parent;
    RETURN NEXT executor.notices_fact();
END
$$;

-- Hold what waits for a worker in tasks that do not go on, until they do.
CREATE FUNCTION executor.hold_v1(p_task_ids uuid[]) RETURNS void LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    UPDATE executor.steps s SET state = 'BLOCKED', due_at = NULL
    WHERE s.task_id = ANY (p_task_ids) AND s.state::text = 'READY' AND s.step_id < '~';
$$;

-- Make steps ready that wait, or are held; where the task does not go on, hold them.
-- The caller holds the tasks' locks.
CREATE FUNCTION executor.wake_v1(
    p_republish interval, p_task_ids uuid[], p_step_ids text[], p_inboxes bytea[]
) RETURNS SETOF executor.fact LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    WITH woken AS (
        UPDATE executor.steps s
        SET state = CASE WHEN r.live THEN 'READY' ELSE 'BLOCKED' END::executor.step_state,
            phase = CASE
                WHEN s.phase = 3 THEN 3
                -- By this clock, whatever that of the worker says.
                WHEN s.expires_at <= now() THEN 4
                WHEN s.waits_for = 'worker' THEN s.phase
                WHEN s.waits_for IN ('retry', 'start') THEN
                    -- What has been started is not started again.
                    CASE WHEN s.items IS NULL THEN 0 ELSE 2 END
                WHEN s.waits_for LIKE 'limit:%' THEN 1
                WHEN s.waits_for IS NOT NULL THEN 2
                -- Held meanwhile, it has lost its place under its limit.
                WHEN s.phase = 1 THEN 0
                ELSE s.phase END,
            waits_for = NULL, inbox = coalesce(r.inbox, s.inbox), needs = 0, open = 0,
            publications = 0,
            due_at = CASE WHEN r.live THEN now() + p_republish END,
            ready_at = now(),
            expires_at = coalesce(s.expires_at, now() + s.lifetime)
        FROM (
            SELECT u.*, executor.is_live(t.state, t.failure, u.step_id) AS live
            FROM unnest(p_task_ids, p_step_ids, p_inboxes) AS u (task_id, step_id, inbox)
            JOIN executor.tasks t ON t.task_id = u.task_id
        ) AS r
        WHERE s.task_id = r.task_id AND s.step_id = r.step_id
            AND (s.state = 'WAITING'
                OR (s.state = 'BLOCKED' AND s.needs = 0 AND s.open = 0 AND r.live))
        RETURNING s.task_id, s.step_id, s.attempt, s.queue, s.state
    )
    SELECT (executor.ready_fact(w.task_id, w.step_id, w.attempt, w.queue)).*
    FROM woken w WHERE w.state = 'READY';
$$;

-- Do what the end of tasks with traits means for others. The caller has just ended them,
-- and holds their locks.
CREATE FUNCTION executor.after_end_v1(p_task_ids uuid[])
RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_parents uuid[];
BEGIN
    -- What was compensated does not go on. In a task that has succeeded only an early join
    -- leaves something over; that has a trait, or went with the step that has added it.
    SELECT array_agg(t.task_id) INTO v_parents FROM executor.tasks t
    WHERE t.task_id = ANY (p_task_ids) AND (t.traits & 8) <> 0
        AND CASE t.state WHEN 'FAILED' THEN (t.traits & 32) <> 0
            WHEN 'SUCCEEDED' THEN (t.traits & 16) <> 0 ELSE true END;
    IF v_parents IS NOT NULL THEN
        RETURN QUERY SELECT * FROM executor.abandon_v1(v_parents);
    END IF;
    UPDATE executor.steps s
    SET state = 'CANCELLED', session_id = NULL, due_at = NULL, waits_for = NULL,
        ended_at = now()
    FROM executor.tasks t
    WHERE t.task_id = ANY (p_task_ids) AND t.state <> 'FAILED' AND (t.traits & 16) <> 0
        AND s.task_id = t.task_id AND s.state IN ('BLOCKED', 'READY', 'RUNNING', 'WAITING');
    INSERT INTO executor.notices (kind, tenant_id, task_id, payload)
    SELECT n.kind, t.tenant_id, t.task_id,
        jsonb_build_object('state', t.state, 'cursor', t.last_cursor,
            'parent_task_id', t.parent_task_id, 'parent_step_id', t.parent_step_id)
    FROM executor.tasks t
    JOIN (VALUES ('parent', 1), ('subscription', 4)) AS n (kind, trait)
        ON (t.traits & n.trait) <> 0
    WHERE t.task_id = ANY (p_task_ids)
    ORDER BY t.task_id;
    IF FOUND THEN
        RETURN NEXT executor.notices_fact();
    END IF;
    -- Steps of a task that has failed go on waiting: RetryTask would not have them wait anew.
    DELETE FROM executor.limit_waiters w USING executor.tasks t
    WHERE w.task_id = ANY (p_task_ids) AND t.task_id = w.task_id
        AND (w.step_id = '' OR t.state <> 'FAILED');
    RETURN QUERY
    WITH gone AS (
        DELETE FROM executor.limit_holders h USING executor.tasks t
        WHERE h.task_id = ANY (p_task_ids) AND t.task_id = h.task_id
            AND (h.step_id = '' OR t.state <> 'FAILED')
        RETURNING h.tenant_id, h.key
    )
    SELECT DISTINCT (executor.released_fact(g.tenant_id, g.key)).* FROM gone g;
END
$$;

-- Claim ready steps for a worker session. Steps that are not READY in the attempt given
-- are passed over: their message was doubled or late.
--
-- p_expired  only steps whose schedule_to_close is over, also those of paused queues
CREATE FUNCTION executor.claim_v1(
    p_session uuid, p_task_ids uuid[], p_step_ids text[], p_attempts integer[],
    p_expired boolean DEFAULT false
) RETURNS TABLE (
    task_id uuid, step_id text, ordinal integer, item integer, items integer,
    attempt integer, failures integer, losses integer, phase smallint, item_input bytea,
    inbox bytea, heartbeat bytea, scope text, scope_graph bytea, scope_input bytea,
    added_graph bytea, expires_at timestamptz, ready_at timestamptz, queue text,
    tenant_id text, graph_hash bytea, input bytea, input_type text, traceparent text,
    priority smallint, depth smallint
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH picked AS (
        SELECT s.task_id, s.step_id
        FROM unnest(p_task_ids, p_step_ids, p_attempts) AS r (task_id, step_id, attempt)
        JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
        WHERE s.attempt = r.attempt AND s.state::text = 'READY'
            AND CASE WHEN p_expired THEN s.expires_at <= now() ELSE s.queue <> ALL (
                ARRAY(SELECT q.queue FROM executor.queues q WHERE q.paused)) END
        FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    UPDATE executor.steps s
    SET state = 'RUNNING', session_id = p_session, started_at = now(), due_at = NULL,
        -- A start that comes late is asked for anew: else late ones come all at once.
        phase = CASE WHEN s.phase = 1 AND s.ready_at < now() - executor.promise_ahead()
            THEN 0 ELSE s.phase END
    FROM picked p JOIN executor.tasks t ON t.task_id = p.task_id
    WHERE s.task_id = p.task_id AND s.step_id = p.step_id
        AND executor.is_live(t.state, t.failure, s.step_id)
    RETURNING s.task_id, s.step_id, s.ordinal, s.item, s.items, s.attempt, s.failures,
        s.losses, s.phase, s.item_input, s.inbox, s.heartbeat, s.scope, s.graph_hash,
        CASE WHEN s.scope IS NOT NULL THEN (
            SELECT a.inbox FROM executor.steps a
            WHERE a.task_id = s.task_id AND a.step_id = s.scope) END,
        s.added_graph, s.expires_at, s.ready_at, s.queue, t.tenant_id, t.graph_hash,
        t.input, t.input_type, t.traceparent, t.priority, t.depth;
END
$$;

-- Record that attempts have started, of those that are not over soon. Those that the
-- session does not run any more are passed over.
--
-- p_again  whether a call whose answer was lost may have recorded it: then each task's events
--          are looked through
CREATE FUNCTION executor.start_v1(
    p_session uuid, p_task_ids uuid[], p_step_ids text[], p_attempts integer[],
    p_again boolean DEFAULT false
) RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM executor.lock_tasks(p_task_ids);
    RETURN QUERY
    WITH per_task AS (
        SELECT s.task_id, count(*) AS n, min(s.started_at) AS started_at,
            string_agg('[10,"' || s.step_id || '",' || s.attempt || ']', ',') AS events
        FROM unnest(p_task_ids, p_step_ids, p_attempts) AS r (task_id, step_id, attempt)
        JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
        WHERE s.attempt = r.attempt AND s.state::text = 'RUNNING' AND s.session_id = p_session
            AND NOT (p_again AND EXISTS (
                SELECT FROM executor.task_events e
                WHERE e.task_id = s.task_id
                    AND strpos(e.events, '[10,"' || s.step_id || '",' || s.attempt || ']') > 0))
        GROUP BY s.task_id
    ), begun AS (
        SELECT p.*, t.started_at IS NULL AS first
        FROM per_task p JOIN executor.tasks t ON t.task_id = p.task_id
    ), advanced AS (
        UPDATE executor.tasks t
        SET state = CASE t.state WHEN 'PENDING' THEN 'RUNNING' ELSE t.state END,
            started_at = coalesce(t.started_at, b.started_at),
            last_cursor = t.last_cursor + b.n + b.first::integer
        FROM begun b WHERE t.task_id = b.task_id
        RETURNING t.task_id, t.last_cursor,
            '[' || CASE WHEN b.first THEN '[2,"",0],' ELSE '' END || b.events || ']' AS events
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT a.task_id, a.last_cursor, a.events FROM advanced a
    )
    SELECT (executor.events_fact(a.task_id, a.last_cursor, a.events)).* FROM advanced a;
END
$$;

-- Record how attempts ended, and do what follows from it. A settlement whose attempt is
-- no longer the session's is refused: its place is not among those ACCEPTED.
--
-- p_came         whether the attempt began with what its step had waited for: a step that waits
--                goes on as the same attempt, and what comes before and after are two runs
-- p_*            settlements: the new state (SUCCEEDED, SKIPPED, WAITING or FAILED); whether
--                another attempt follows; output; failure; whether it fails the task; for
--                what, how long and until when it waits; numbers of items
--                started, needed and let go; whether to cancel what is left of them; whether
--                the task waits for it; input and hash of a graph that it adds, and whether
--                steps of that can be undone; its events as JSON, and their number. A column in
--                which nothing stands may be null.
-- p_limited      whether one of the attempts has a place under a limit
-- p_next_*       steps that a settlement (p_next_from, 1-based) adds: ready if they need
--                nothing, else blocked; p_next_claim claims one for the session
-- p_join_*       steps that count a settlement (p_join_from, 1-based) as ended, and where
--                p_join_counts as succeeded
-- p_republish    after what time the sweeper publishes a READY step again
CREATE FUNCTION executor.settle_v1(
    p_session uuid, p_republish interval, p_limited boolean,
    p_task_ids uuid[], p_step_ids text[], p_attempts integer[], p_came boolean[],
    p_states executor.step_state[], p_retries boolean[], p_outputs bytea[],
    p_output_types text[], p_failures jsonb[], p_fatals boolean[], p_waits_for text[],
    p_waits interval[], p_untils timestamptz[], p_items integer[],
    p_needs integer[], p_released integer[], p_prunes boolean[], p_sinks boolean[],
    p_inboxes bytea[], p_added bytea[], p_compensates boolean[], p_events text[],
    p_event_counts integer[], p_next_from integer[], p_next_step_ids text[], p_next_ordinals integer[],
    p_next_item integer[], p_next_queues text[], p_next_priorities smallint[],
    p_next_inputs bytea[], p_next_needs integer[], p_next_opens integer[],
    p_next_lifetimes interval[], p_next_phases smallint[], p_next_scopes text[],
    p_next_graphs bytea[], p_next_claim boolean[],
    p_join_from integer[], p_join_step_ids text[], p_join_counts boolean[],
    p_join_claim boolean[]
) RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_traits integer;
    v_failed uuid[];
    v_ended uuid[];
    v_paused text[];
    v_left_tasks uuid[];
    v_left_steps text[];
    v_settled record;
    -- Of each settlement: whether it is recorded, whether its task goes on, when its attempt
    -- started, and whose it is.
    v_accepted boolean[] := array_fill(false, ARRAY[cardinality(p_task_ids)]);
    v_live boolean[] := v_accepted;
    v_started timestamptz[] := array_fill(NULL::timestamptz, ARRAY[cardinality(p_task_ids)]);
    v_tenants text[] := array_fill(NULL::text, ARRAY[cardinality(p_task_ids)]);
BEGIN
    SELECT bit_or(t.traits) INTO v_traits FROM (
        SELECT t.traits FROM executor.tasks t
        WHERE t.task_id = ANY (p_task_ids) ORDER BY t.task_id FOR NO KEY UPDATE
    ) AS t;
    -- What follows in a paused queue is not claimed at once. It is in the queue of the
    -- attempt that it follows.
    SELECT array_agg(q.queue) INTO v_paused FROM executor.queues q WHERE q.paused;
    IF v_paused IS NOT NULL THEN
        SELECT array_agg(n.claim AND n.queue <> ALL (v_paused) ORDER BY n.place)
        INTO p_next_claim
        FROM unnest(p_next_claim, p_next_queues) WITH ORDINALITY AS n (claim, queue, place);
        SELECT array_agg(j.claim AND coalesce(s.queue <> ALL (v_paused), false)
            ORDER BY j.place)
        INTO p_join_claim
        FROM unnest(p_join_claim, p_join_from) WITH ORDINALITY AS j (claim, "from", place)
        LEFT JOIN executor.steps s
            ON s.task_id = p_task_ids[j."from"] AND s.step_id = p_step_ids[j."from"];
    END IF;
    -- Tasks that fail by this batch: nothing new starts in them.
    IF true = ANY (p_fatals) THEN
        SELECT array_agg(DISTINCT t.task_id) INTO v_failed
        FROM unnest(p_task_ids, p_step_ids, p_attempts, p_came, p_fatals)
            AS r (task_id, step_id, attempt, came, fatal)
        JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
            AND s.attempt = r.attempt AND (s.phase >= 2) = coalesce(r.came, false)
            AND s.state::text = 'RUNNING' AND s.session_id = p_session
        JOIN executor.tasks t ON t.task_id = s.task_id
            AND t.ended_at IS NULL AND t.failure IS NULL
        WHERE r.fatal;
    END IF;
    -- What each settlement means is asked for by its place, here and not by a join: with
    -- hash joins off, a join of two lists would compare each with each.
    FOR v_settled IN
        UPDATE executor.steps s
        SET state = r.state,
            output = r.output,
            output_type = r.output_type,
            failure = CASE WHEN r.state IN ('WAITING', 'FAILED')
                THEN coalesce(r.failure, s.failure) ELSE s.failure END,
            failures = s.failures
                + (r.state IN ('WAITING', 'FAILED') AND r.failure IS NOT NULL)::integer,
            tolerated = r.state = 'FAILED' AND r.fatal IS NOT true,
            attempt = s.attempt + coalesce(r.retry, false)::integer,
            waits_for = r.waits_for,
            -- What it waits for may never come: its schedule_to_close ends every wait, but,
            -- once it is over, that for somebody who knows what this means.
            due_at = CASE WHEN r.waits_for IS NOT NULL THEN least(now() + r.wait, r.until,
                CASE WHEN r.waits_for <> 'worker' OR s.expires_at > now()
                    THEN s.expires_at END) END,
            -- Nothing makes good a join that cannot be satisfied; and an attempt that was
            -- declined leaves what came to the next one.
            phase = CASE WHEN s.phase = 3 OR (s.phase IN (2, 4) AND r.waits_for = 'worker')
                THEN s.phase ELSE 0 END,
            publications = 0,
            items = coalesce(r.items, s.items),
            needs = coalesce(r.needs, 0),
            open = coalesce(r.items, 0),
            released = coalesce(r.released, s.released),
            -- A signal that came before was given back when the step was retried.
            inbox = CASE WHEN r.waits_for LIKE 'signal:%' THEN r.inbox
                ELSE coalesce(r.inbox, s.inbox) END,
            added_graph = coalesce(r.added, s.added_graph),
            session_id = NULL,
            ended_at = CASE WHEN r.state = 'WAITING' THEN NULL ELSE now() END
        FROM (
            SELECT u.*,
                executor.is_live(t.state, t.failure, u.step_id)
                    AND t.task_id <> ALL (coalesce(v_failed, '{}')) AS live
            FROM unnest(p_task_ids, p_step_ids, p_attempts, p_came, p_states, p_retries, p_outputs,
                p_output_types, p_failures, p_fatals, p_waits_for, p_waits, p_untils,
                p_items, p_needs, p_released, p_inboxes, p_added)
                WITH ORDINALITY AS u (task_id, step_id, attempt, came, state, retry, output,
                    output_type, failure, fatal, waits_for, wait, until, items, needs,
                    released, inbox, added, ordinality)
            JOIN executor.tasks t ON t.task_id = u.task_id
        ) AS r
        WHERE s.task_id = r.task_id AND s.step_id = r.step_id AND s.attempt = r.attempt
            AND (s.phase >= 2) = coalesce(r.came, false)
            AND s.state::text = 'RUNNING' AND s.session_id = p_session
        RETURNING r.ordinality::integer, s.tenant_id, r.live, s.started_at
    LOOP
        v_accepted[v_settled.ordinality] := true;
        v_live[v_settled.ordinality] := v_settled.live;
        v_started[v_settled.ordinality] := v_settled.started_at;
        v_tenants[v_settled.ordinality] := v_settled.tenant_id;
    END LOOP;
    IF p_compensates IS NOT NULL THEN
        -- Before it is decided what follows from a failure in this very batch.
        UPDATE executor.tasks t SET traits = t.traits | 32
        FROM unnest(p_task_ids, p_compensates)
            WITH ORDINALITY AS r (task_id, compensates, place)
        WHERE t.task_id = r.task_id AND r.compensates AND v_accepted[r.place];
        v_traits := v_traits | 32;
    END IF;
    RETURN QUERY
    WITH next AS (
        INSERT INTO executor.steps AS s (task_id, step_id, ordinal, item, scope, graph_hash,
            state, phase, needs, open, tenant_id, queue, priority, item_input, lifetime,
            session_id, due_at, ready_at, started_at, expires_at)
        SELECT n.task_id, n.step_id, n.ordinal, n.item, n.scope, n.graph_hash,
            CASE WHEN n.needs + n.open > 0 OR NOT n.live THEN 'BLOCKED'
                WHEN n.claim THEN 'RUNNING' ELSE 'READY' END::executor.step_state,
            n.phase, n.needs, n.open, n.tenant_id, n.queue, n.priority, n.input, n.lifetime,
            CASE WHEN n.claim AND n.live THEN p_session END,
            CASE WHEN n.needs + n.open = 0 AND n.live AND NOT n.claim
                THEN now() + p_republish END,
            CASE WHEN n.needs + n.open = 0 THEN now() END,
            CASE WHEN n.claim AND n.live THEN now() END,
            CASE WHEN n.needs + n.open = 0 THEN now() + n.lifetime END
        FROM (
            SELECT p_task_ids[u."from"] AS task_id, v_tenants[u."from"] AS tenant_id,
                v_live[u."from"] AS live,
                u.step_id, u.ordinal, u.item, u.queue, u.priority, u.input,
                coalesce(u.needs, 0) AS needs, coalesce(u.open, 0) AS open, u.lifetime,
                coalesce(u.phase, 0) AS phase, u.scope, u.graph_hash,
                coalesce(u.claim, false) AS claim
            FROM unnest(p_next_from, p_next_step_ids, p_next_ordinals, p_next_item,
                p_next_queues, p_next_priorities, p_next_inputs, p_next_needs, p_next_opens,
                p_next_lifetimes, p_next_phases, p_next_scopes, p_next_graphs, p_next_claim)
                AS u ("from", step_id, ordinal, item, queue, priority, input, needs, open,
                    lifetime, phase, scope, graph_hash, claim)
            WHERE v_accepted[u."from"]
                -- What runs again may be followed by what is there already.
                AND (p_attempts[u."from"] = 1 OR NOT EXISTS (
                    SELECT FROM executor.steps k
                    WHERE k.task_id = p_task_ids[u."from"] AND k.step_id = u.step_id))
        ) AS n
        RETURNING s.*
    ), arrived AS (
        SELECT p_task_ids[j."from"] AS task_id, j.step_id, count(*)::integer AS n,
            count(*) FILTER (WHERE j.counts)::integer AS c, bool_and(j.claim) AS claim,
            bool_and(v_live[j."from"]) AS live,
            left(p_step_ids[j."from"], length(j.step_id) + 1)
                IN (j.step_id || '[', j.step_id || '/') AS child
        FROM unnest(p_join_from, p_join_step_ids, p_join_counts, p_join_claim)
            AS j ("from", step_id, counts, claim)
        WHERE v_accepted[j."from"]
        GROUP BY p_task_ids[j."from"], j.step_id, child
    ), counted AS (
        -- A join wakes when it has what it needs, or when it cannot have it any more.
        SELECT a.*, s.needs <= a.c OR s.open - a.n < s.needs - a.c AS wakes,
            s.released AS first,
            CASE WHEN s.released IS NULL THEN NULL
                WHEN s.attempt = 1 THEN least(s.items, s.released + a.n)
                -- Behind those that have succeeded before.
                ELSE coalesce((
                    SELECT i.item + 1 FROM generate_series(s.released, s.items - 1) AS i (item)
                    CROSS JOIN LATERAL (
                        SELECT FROM executor.steps k
                        WHERE k.task_id = s.task_id AND k.state::text = 'BLOCKED'
                            AND k.step_id = s.step_id || '[' || i.item || ']'
                        LIMIT 1
                    ) AS k
                    OFFSET a.n - 1 LIMIT 1), s.items) END AS last
        FROM arrived a
        JOIN executor.steps s ON s.task_id = a.task_id AND s.step_id = a.step_id
        -- What it depends on may still end while it waits for its items.
        WHERE CASE WHEN a.child THEN s.state = 'WAITING' AND s.waits_for IN ('items', 'steps')
            ELSE s.state = 'BLOCKED' AND s.needs + s.open > 0 END
    ), joined AS (
        UPDATE executor.steps s
        SET needs = CASE WHEN a.wakes THEN 0 ELSE s.needs - a.c END,
            open = CASE WHEN a.wakes THEN 0 ELSE s.open - a.n END,
            released = a.last,
            state = CASE
                WHEN NOT a.wakes THEN s.state
                WHEN NOT a.live THEN 'BLOCKED'
                WHEN a.claim THEN 'RUNNING' ELSE 'READY' END::executor.step_state,
            phase = CASE
                WHEN NOT a.wakes THEN s.phase
                WHEN s.state = 'WAITING' THEN 2
                WHEN s.needs > a.c THEN 3
                ELSE s.phase END,
            waits_for = CASE WHEN a.wakes THEN NULL ELSE s.waits_for END,
            session_id = CASE WHEN a.wakes AND a.live AND a.claim THEN p_session END,
            due_at = CASE WHEN NOT a.wakes THEN s.due_at
                WHEN a.live AND NOT a.claim THEN now() + p_republish END,
            ready_at = CASE WHEN a.wakes THEN now() ELSE s.ready_at END,
            started_at = CASE WHEN a.wakes AND a.live AND a.claim
                THEN now() ELSE s.started_at END,
            -- One that waits for its items has its time already.
            expires_at = CASE WHEN a.wakes THEN coalesce(s.expires_at, now() + s.lifetime)
                ELSE s.expires_at END
        FROM counted a
        WHERE s.task_id = a.task_id AND s.step_id = a.step_id
        RETURNING s.*
    ), laned AS (
        -- As many items as have ended let others go.
        UPDATE executor.steps s
        SET needs = 0, open = 0,
            state = CASE WHEN NOT c.live THEN 'BLOCKED' WHEN c.claim THEN 'RUNNING'
                ELSE 'READY' END::executor.step_state,
            session_id = CASE WHEN c.live AND c.claim THEN p_session END,
            due_at = CASE WHEN c.live AND NOT c.claim THEN now() + p_republish END,
            ready_at = now(),
            started_at = CASE WHEN c.live AND c.claim THEN now() END,
            expires_at = now() + s.lifetime
        FROM counted c CROSS JOIN LATERAL generate_series(c.first, c.last - 1) AS i (item)
        WHERE NOT c.wakes AND s.task_id = c.task_id
            AND s.step_id = c.step_id || '[' || i.item || ']' AND s.state = 'BLOCKED'
        RETURNING s.*
    ), awakened AS (
        SELECT * FROM next UNION ALL SELECT * FROM joined UNION ALL SELECT * FROM laned
    ), per_task AS (
        SELECT x.task_id, sum(x.event_count) AS n, min(v_started[x.ordinality]) AS started_at,
            string_agg(x.events, ',' ORDER BY x.ordinality) AS events,
            count(*) FILTER (WHERE x.sink AND x.state IN ('SUCCEEDED', 'SKIPPED')
                AND x.step_id < '~') AS closed,
            bool_or(x.step_id = '~undo' AND x.state = 'SUCCEEDED') AS undone,
            (array_agg(x.failure ORDER BY x.ordinality)
                FILTER (WHERE x.step_id = '~undo'))[1] AS undo_failure,
            (array_agg(x.failure || jsonb_build_object('step_id', x.step_id)
                ORDER BY x.ordinality) FILTER (WHERE x.fatal))[1] AS failure
        FROM unnest(p_task_ids, p_step_ids, p_states, p_failures, p_fatals, p_sinks, p_events,
            p_event_counts) WITH ORDINALITY AS x (task_id, step_id, state, failure, fatal, sink,
                events, event_count, ordinality)
        WHERE v_accepted[x.ordinality]
        GROUP BY x.task_id
    ), ends AS (
        SELECT p.*, t.started_at IS NULL AS first,
            CASE
                WHEN t.ended_at IS NOT NULL THEN 'LATE'
                WHEN t.failure IS NOT NULL THEN CASE WHEN p.undone THEN 'UNDONE' END
                WHEN p.failure IS NOT NULL AND (t.traits & 32) <> 0 THEN 'UNDO'
                WHEN p.failure IS NOT NULL THEN 'FAILED'
                WHEN t.open_sinks = p.closed THEN 'SUCCEEDED' END AS "end",
            CASE WHEN p.undo_failure IS NULL THEN t.failure
                ELSE jsonb_set(t.failure, '{metadata}',
                    coalesce(t.failure -> 'metadata', '{}') || p.undo_failure) END
                AS final_failure
        FROM per_task p JOIN executor.tasks t ON t.task_id = p.task_id
    ), advanced AS (
        UPDATE executor.tasks t
        -- Also what ends after the task has failed: a retry does not run it again.
        SET open_sinks = t.open_sinks - e.closed,
            state = CASE
                WHEN e."end" = 'SUCCEEDED' THEN 'SUCCEEDED'
                WHEN e."end" IN ('FAILED', 'UNDONE') THEN 'FAILED'
                WHEN e."end" = 'UNDO' OR t.state = 'PENDING' THEN 'RUNNING'
                ELSE t.state END::executor.task_state,
            mark = CASE WHEN e."end" IN ('FAILED', 'UNDONE') THEN 'FAILED'
                WHEN e."end" IN ('SUCCEEDED', 'UNDO') THEN NULL
                ELSE t.mark END::executor.task_state,
            failure = CASE e."end" WHEN 'FAILED' THEN e.failure WHEN 'UNDO' THEN e.failure
                WHEN 'UNDONE' THEN e.final_failure ELSE t.failure END,
            started_at = coalesce(t.started_at, e.started_at),
            ended_at = CASE WHEN e."end" IN ('SUCCEEDED', 'FAILED', 'UNDONE')
                THEN now() ELSE t.ended_at END,
            last_cursor = t.last_cursor + e.n + e.first::integer
                + (coalesce(e."end", 'LATE') <> 'LATE')::integer
        FROM ends e
        WHERE t.task_id = e.task_id
        RETURNING t.task_id, t.tenant_id, t.priority, t.last_cursor, e."end",
            '[' || CASE WHEN e.first THEN '[2,"",0],' ELSE '' END || e.events
                || CASE e."end"
                    WHEN 'SUCCEEDED' THEN ',[3,"",0]'
                    WHEN 'FAILED' THEN ',[4,"",0,' || e.failure::text || ']'
                    WHEN 'UNDONE' THEN ',[4,"",0,' || e.final_failure::text || ']'
                    WHEN 'UNDO' THEN ',[9,"",0,' || e.failure::text || ']'
                    ELSE '' END || ']' AS events
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT a.task_id, a.last_cursor, a.events FROM advanced a
    ), undo AS (
        INSERT INTO executor.steps AS s (task_id, step_id, ordinal, state, tenant_id, queue,
            priority, due_at, ready_at)
        SELECT a.task_id, '~undo', -1, 'READY', a.tenant_id, 'default', a.priority,
            now() + p_republish, now()
        FROM advanced a WHERE a."end" = 'UNDO'
        RETURNING s.task_id, s.step_id, s.attempt, s.queue
    )
    SELECT 'ACCEPTED', array_positions(v_accepted, true), NULL::uuid, NULL, NULL::integer, NULL,
        NULL::executor.started, NULL::bigint, NULL::timestamptz, NULL, NULL, NULL
    UNION ALL
    SELECT CASE k.state WHEN 'RUNNING' THEN 'STARTED' ELSE 'READY' END, NULL, k.task_id,
        k.step_id, k.attempt, k.queue,
        CASE WHEN k.state = 'RUNNING' THEN (k.ordinal, k.item, k.items, k.failures, k.losses,
            k.phase, k.item_input, k.inbox, k.heartbeat, k.scope, k.graph_hash,
            CASE WHEN k.scope IS NOT NULL THEN (
                SELECT b.inbox FROM executor.steps b
                WHERE b.task_id = k.task_id AND b.step_id = k.scope) END,
            k.added_graph, k.expires_at)::executor.started END,
        NULL, NULL, NULL, NULL, NULL
    FROM awakened k WHERE k.state IN ('RUNNING', 'READY')
        -- What is left over by a task that ends here is cancelled below.
        AND ((v_traits & 16) = 0 OR NOT EXISTS (
            SELECT FROM advanced a WHERE a.task_id = k.task_id AND a."end" = 'SUCCEEDED'))
    UNION ALL
    SELECT (executor.ready_fact(u.task_id, u.step_id, u.attempt, u.queue)).* FROM undo u
    UNION ALL
    SELECT (executor.events_fact(a.task_id, a.last_cursor, a.events)).* FROM advanced a;
    IF v_failed IS NOT NULL THEN
        PERFORM executor.hold_v1(v_failed);
    END IF;
    IF true = ANY (p_prunes) THEN
        WITH pruned AS (
            SELECT s.task_id, s.step_id
            FROM unnest(p_task_ids, p_step_ids, p_attempts, p_prunes)
                AS r (task_id, step_id, attempt, prune)
            JOIN executor.steps parent ON parent.task_id = r.task_id
                AND parent.step_id = r.step_id AND parent.attempt = r.attempt
            JOIN executor.steps s ON s.task_id = r.task_id
                AND ((s.step_id > r.step_id || '[' AND s.step_id < r.step_id || '\')
                    OR (s.step_id > r.step_id || '/' AND s.step_id < r.step_id || '0'))
            WHERE r.prune AND parent.state IN ('SUCCEEDED', 'FAILED')
                AND parent.ended_at = now()
                AND s.state IN ('BLOCKED', 'READY', 'RUNNING', 'WAITING')
        ), cancelled AS (
            UPDATE executor.steps s
            SET state = 'CANCELLED', session_id = NULL, due_at = NULL, waits_for = NULL,
                ended_at = now()
            FROM pruned p WHERE s.task_id = p.task_id AND s.step_id = p.step_id
            RETURNING s.task_id, s.step_id
        )
        SELECT array_agg(c.task_id), array_agg(c.step_id) INTO v_left_tasks, v_left_steps
        FROM cancelled c;
    END IF;
    IF (v_traits & 8) <> 0 THEN
        -- Subtasks of steps that were cancelled, or have ended without knowing of them.
        SELECT array_agg(l.task_id), array_agg(l.step_id) INTO v_left_tasks, v_left_steps
        FROM (
            SELECT * FROM unnest(v_left_tasks, v_left_steps) AS c (task_id, step_id)
            UNION ALL
            SELECT r.task_id, r.step_id
            FROM unnest(p_task_ids, p_step_ids, p_states)
                WITH ORDINALITY AS r (task_id, step_id, state, place)
            WHERE v_accepted[r.place] AND r.state IN ('FAILED', 'SKIPPED')
        ) AS l;
        IF v_left_tasks IS NOT NULL THEN
            RETURN QUERY SELECT * FROM executor.abandon_v1(v_left_tasks, v_left_steps);
        END IF;
    END IF;
    IF p_limited THEN
        -- Its place is free when the attempt is over; another attempt waits anew.
        RETURN QUERY
        WITH gone AS (
            DELETE FROM executor.limit_holders h
            USING unnest(p_task_ids, p_step_ids) AS r (task_id, step_id),
                executor.steps s
            WHERE h.task_id = r.task_id AND h.step_id = r.step_id
                AND s.task_id = h.task_id AND s.step_id = h.step_id
                -- Not the place of another attempt, where the settlement was refused.
                AND s.state NOT IN ('READY', 'RUNNING')
                AND coalesce(s.waits_for, '') NOT LIKE 'limit:%'
            RETURNING h.tenant_id, h.key
        )
        SELECT DISTINCT (executor.released_fact(g.tenant_id, g.key)).* FROM gone g;
    END IF;
    IF EXISTS (SELECT FROM unnest(p_waits_for) AS w WHERE w LIKE 'signal:%') THEN
        RETURN QUERY SELECT * FROM executor.deliver_signals_v1(p_republish, p_task_ids);
    END IF;
    IF EXISTS (SELECT FROM unnest(p_waits_for) AS w WHERE w LIKE 'task:%') THEN
        -- A subtask may have ended before its parent began to wait for it.
        RETURN QUERY
        SELECT f.* FROM (
            SELECT array_agg(s.task_id) AS tasks, array_agg(s.step_id) AS steps
            FROM unnest(p_task_ids, p_step_ids) AS r (task_id, step_id)
            JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
            JOIN executor.tasks child ON child.task_id = CASE
                WHEN s.waits_for LIKE 'task:%' THEN substr(s.waits_for, 6)::uuid END
            WHERE s.state = 'WAITING' AND child.ended_at IS NOT NULL
        ) AS over, executor.wake_v1(p_republish, over.tasks, over.steps, NULL) AS f;
    END IF;
    IF v_traits <> 0 THEN
        SELECT array_agg(t.task_id) INTO v_ended FROM executor.tasks t
        WHERE t.task_id = ANY (p_task_ids) AND t.ended_at = now() AND t.traits <> 0;
        IF v_ended IS NOT NULL THEN
            RETURN QUERY SELECT * FROM executor.after_end_v1(v_ended);
        END IF;
    END IF;
END
$$;

-- Take steps from the sessions that run them: they are ready again, or held where their
-- task does not go on.
CREATE FUNCTION executor.lose_steps_v1(
    p_republish interval, p_sessions uuid[], p_task_ids uuid[], p_step_ids text[]
) RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM executor.lock_tasks(p_task_ids);
    RETURN QUERY
    WITH lost AS (
        UPDATE executor.steps s
        SET state = CASE WHEN r.live THEN 'READY' ELSE 'BLOCKED' END::executor.step_state,
            -- It keeps its place under its limit, and has to ask for a start anew.
            phase = CASE s.phase WHEN 1 THEN 0 ELSE s.phase END,
            attempt = s.attempt + 1,
            losses = s.losses + 1,
            publications = 0,
            session_id = NULL,
            needs = 0, open = 0,
            due_at = CASE WHEN r.live THEN now() + p_republish END,
            ready_at = now()
        FROM (
            SELECT u.*, executor.is_live(t.state, t.failure, u.step_id) AS live
            FROM unnest(p_sessions, p_task_ids, p_step_ids) AS u (session_id, task_id, step_id)
            JOIN executor.tasks t ON t.task_id = u.task_id
        ) AS r
        WHERE s.task_id = r.task_id AND s.step_id = r.step_id
            AND s.state::text = 'RUNNING' AND s.session_id = r.session_id
        RETURNING s.task_id, s.step_id, s.state, s.attempt, s.queue
    ), per_task AS (
        SELECT l.task_id, count(*) AS n,
            string_agg('[14,"' || l.step_id || '",' || l.attempt - 1 || ']', ',') AS events
        FROM lost l GROUP BY l.task_id
    ), advanced AS (
        UPDATE executor.tasks t SET last_cursor = t.last_cursor + p.n
        FROM per_task p WHERE t.task_id = p.task_id
        RETURNING t.task_id, t.last_cursor, '[' || p.events || ']' AS events
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT a.task_id, a.last_cursor, a.events FROM advanced a
    )
    SELECT (executor.ready_fact(l.task_id, l.step_id, l.attempt, l.queue)).*
    FROM lost l WHERE l.state = 'READY'
    UNION ALL
    SELECT (executor.events_fact(a.task_id, a.last_cursor, a.events)).* FROM advanced a;
END
$$;

-- Give back the steps that run for sessions without a lease, and forget the sessions whose
-- lease has run out.
CREATE FUNCTION executor.lose_orphans_v1(p_republish interval, p_limit integer)
RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_sessions uuid[];
    v_tasks uuid[];
    v_steps text[];
BEGIN
    SELECT array_agg(o.session_id), array_agg(o.task_id), array_agg(o.step_id)
    INTO v_sessions, v_tasks, v_steps
    FROM (
        SELECT s.session_id, s.task_id, s.step_id FROM executor.steps s
        WHERE s.state = 'RUNNING' AND NOT EXISTS (
            SELECT FROM executor.worker_sessions w
            WHERE w.session_id = s.session_id AND w.expires_at >= now())
        LIMIT p_limit
    ) AS o;
    IF v_tasks IS NOT NULL THEN
        RETURN QUERY SELECT * FROM executor.lose_steps_v1(
            p_republish, v_sessions, v_tasks, v_steps);
    END IF;
    DELETE FROM executor.worker_sessions w WHERE w.expires_at < now()
        AND NOT EXISTS (
            SELECT FROM executor.steps s
            WHERE s.state = 'RUNNING' AND s.session_id = w.session_id);
END
$$;

-- Make steps ready whose wait is over by the clock.
CREATE FUNCTION executor.wake_due_v1(p_republish interval, p_limit integer)
RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_tasks uuid[];
    v_steps text[];
BEGIN
    SELECT array_agg(d.task_id), array_agg(d.step_id) INTO v_tasks, v_steps
    FROM (
        SELECT s.task_id, s.step_id FROM executor.steps s
        WHERE s.state = 'WAITING' AND s.due_at <= now() ORDER BY s.due_at LIMIT p_limit
    ) AS d;
    IF v_tasks IS NULL THEN
        RETURN;
    END IF;
    PERFORM executor.lock_tasks(v_tasks);
    -- Subtasks for which nobody waits any more.
    RETURN QUERY
    SELECT f.* FROM (
        SELECT array_agg(s.task_id) AS tasks, array_agg(s.step_id) AS steps
        FROM unnest(v_tasks, v_steps) AS d (task_id, step_id)
        JOIN executor.steps s ON s.task_id = d.task_id AND s.step_id = d.step_id
        WHERE s.state::text = 'WAITING' AND s.due_at <= now() AND s.waits_for LIKE 'task:%'
    ) AS over, executor.abandon_v1(over.tasks, over.steps) AS f
    WHERE over.tasks IS NOT NULL;
    -- What has items under way cannot be held; its time is over when its task goes on.
    UPDATE executor.steps s SET due_at = NULL
    FROM unnest(v_tasks, v_steps) AS d (task_id, step_id)
    JOIN executor.tasks t ON t.task_id = d.task_id
    WHERE s.task_id = d.task_id AND s.step_id = d.step_id AND s.state::text = 'WAITING'
        AND s.waits_for IN ('items', 'steps') AND s.ordinal >= 0
        AND NOT executor.is_live(t.state, t.failure, s.step_id);
    -- What another has woken meanwhile does not wait any more.
    RETURN QUERY
    SELECT f.* FROM (
        SELECT array_agg(s.task_id) AS tasks, array_agg(s.step_id) AS steps
        FROM unnest(v_tasks, v_steps) AS d (task_id, step_id)
        JOIN executor.steps s ON s.task_id = d.task_id AND s.step_id = d.step_id
        WHERE s.state::text = 'WAITING' AND s.due_at <= now()
    ) AS due, executor.wake_v1(p_republish, due.tasks, due.steps, NULL) AS f;
END
$$;

-- Append one event of the task as a whole.
CREATE FUNCTION executor.log_v1(p_task_id uuid, p_event text)
RETURNS SETOF executor.fact LANGUAGE sql AS $$
    WITH advanced AS (
        UPDATE executor.tasks t SET last_cursor = t.last_cursor + 1
        WHERE t.task_id = p_task_id RETURNING t.last_cursor
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT p_task_id, a.last_cursor, '[' || p_event || ']' FROM advanced a
    )
    SELECT (executor.events_fact(p_task_id, a.last_cursor, '[' || p_event || ']')).*
    FROM advanced a;
$$;

-- Leave a notice of what has just happened to a task, if its tenant has subscriptions.
CREATE FUNCTION executor.tell_v1(p_task_id uuid, p_event text)
RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO executor.notices (kind, tenant_id, task_id, payload)
    SELECT 'subscription', t.tenant_id, t.task_id,
        jsonb_build_object('event', p_event, 'cursor', t.last_cursor)
    FROM executor.tasks t WHERE t.task_id = p_task_id AND (t.traits & 4) <> 0;
    IF FOUND THEN
        RETURN NEXT executor.notices_fact();
    END IF;
END
$$;

-- Cancel a task that is not final: no step of it starts or is recorded from here on. The
-- event tells `p_detail`.
CREATE FUNCTION executor.cancel_task_v1(p_task_id uuid, p_detail jsonb DEFAULT NULL)
RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM executor.tasks t
        WHERE t.task_id = p_task_id AND t.ended_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE executor.steps s
    SET state = 'CANCELLED', session_id = NULL, due_at = NULL, waits_for = NULL,
        ended_at = now()
    WHERE s.task_id = p_task_id AND s.state IN ('BLOCKED', 'READY', 'RUNNING', 'WAITING');
    UPDATE executor.tasks t SET state = 'CANCELLED', mark = 'CANCELLED', ended_at = now()
    WHERE t.task_id = p_task_id;
    RETURN QUERY SELECT * FROM executor.log_v1(
        p_task_id, '[5,"",0' || coalesce(',' || p_detail::text, '') || ']');
    RETURN QUERY SELECT * FROM executor.after_end_v1(ARRAY[p_task_id]);
END
$$;

-- Continue a FAILED task that was not compensated: its failed steps and those held are
-- ready again, once it has a place under its concurrency key if it has one (p_key). A
-- request_id that continued the task last time does nothing.
--
-- p_step_ids, p_waits_for, p_needs, p_opens, p_released, p_phases  steps that begin anew, as
--                these say: BLOCKED, or WAITING for something
CREATE FUNCTION executor.retry_task_v1(
    p_republish interval, p_task_id uuid, p_request_id text, p_key text, p_policy smallint,
    p_max_running integer, p_step_ids text[] DEFAULT '{}', p_waits_for text[] DEFAULT '{}',
    p_needs integer[] DEFAULT '{}', p_opens integer[] DEFAULT '{}',
    p_released integer[] DEFAULT '{}', p_phases smallint[] DEFAULT '{}'
) RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM executor.tasks t
        WHERE t.task_id = p_task_id AND t.state = 'FAILED'
            AND (p_request_id IS NULL OR t.retry_request_id IS DISTINCT FROM p_request_id)
            AND NOT EXISTS (SELECT FROM executor.steps s
                WHERE s.task_id = p_task_id AND s.step_id = '~undo')
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- A deadline begins anew.
    INSERT INTO executor.deadlines (task_id, deadline)
    SELECT t.task_id, now() + t.timeout FROM executor.tasks t
    WHERE t.task_id = p_task_id AND t.timeout IS NOT NULL
    ON CONFLICT (task_id) DO UPDATE SET deadline = excluded.deadline;
    UPDATE executor.tasks t
    -- What waits in it, or has run on, must not go on before it has its place.
    SET state = CASE WHEN p_key IS NULL THEN 'RUNNING' ELSE 'WAITING' END::executor.task_state,
        mark = NULL, failure = NULL, ended_at = NULL,
        retry_request_id = p_request_id, started_at = coalesce(t.started_at, now()),
        deadline = now() + t.timeout
    WHERE t.task_id = p_task_id;
    UPDATE executor.steps s
    SET state = CASE WHEN r.waits_for IS NULL THEN 'BLOCKED' ELSE 'WAITING'
            END::executor.step_state,
        attempt = s.attempt + (s.state::text <> 'BLOCKED')::integer,
        waits_for = r.waits_for, needs = r.needs, open = r.open, phase = r.phase,
        released = CASE WHEN s.released IS NOT NULL THEN r.released END,
        failures = 0, losses = 0, tolerated = false, ended_at = NULL,
        expires_at = CASE WHEN r.waits_for IS NOT NULL THEN now() + s.lifetime END,
        due_at = CASE WHEN r.waits_for IS NOT NULL THEN now() + s.lifetime END
    FROM unnest(p_step_ids, p_waits_for, p_needs, p_opens, p_released, p_phases)
        AS r (step_id, waits_for, needs, open, released, phase)
    WHERE s.task_id = p_task_id AND s.step_id = r.step_id
        AND s.state::text IN ('FAILED', 'CANCELLED', 'BLOCKED');
    -- A signal that came for a step which then failed is there for it when it waits again.
    UPDATE executor.signals g SET taken_by = NULL
    FROM executor.steps s
    WHERE g.task_id = p_task_id AND s.task_id = p_task_id AND s.step_id = g.taken_by
        AND (s.state::text = 'FAILED' AND NOT s.tolerated
            OR s.state::text = 'BLOCKED' AND s.phase <> 2);
    UPDATE executor.steps s
    SET attempt = s.attempt + 1, state = 'BLOCKED', ended_at = NULL, expires_at = NULL,
        phase = CASE WHEN s.phase = 3 THEN 3 WHEN s.items IS NOT NULL THEN 2 ELSE 0 END
    WHERE s.task_id = p_task_id AND s.state::text = 'FAILED' AND NOT s.tolerated;
    UPDATE executor.steps s SET failures = 0, losses = 0, expires_at = NULL,
        phase = CASE s.phase WHEN 4 THEN 0 ELSE s.phase END,
        -- Another attempt has a subtask of its own.
        attempt = s.attempt + (s.phase = 4)::integer
    WHERE s.task_id = p_task_id AND s.state = 'BLOCKED' AND s.needs = 0 AND s.open = 0;
    -- So does the schedule_to_close of what was over meanwhile.
    UPDATE executor.steps s SET expires_at = now() + s.lifetime, due_at = now() + s.lifetime
    WHERE s.task_id = p_task_id AND s.state = 'WAITING' AND s.waits_for IN ('items', 'steps')
        AND s.expires_at <= now();
    RETURN QUERY SELECT * FROM executor.log_v1(p_task_id, '[6,"",0]');
    RETURN QUERY SELECT * FROM executor.tell_v1(p_task_id, 'RETRIED');
    IF p_key IS NULL THEN
        RETURN QUERY SELECT * FROM executor.release_held_v1(p_republish, p_task_id);
        RETURN;
    END IF;
    -- It lost its place when it failed.
    INSERT INTO executor.limit_waiters (tenant_id, key, priority, task_id, step_id, policy,
        max_running)
    SELECT t.tenant_id, p_key, t.priority, t.task_id, '', p_policy, p_max_running
    FROM executor.tasks t WHERE t.task_id = p_task_id
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT (executor.released_fact(t.tenant_id, p_key)).*
    FROM executor.tasks t WHERE t.task_id = p_task_id;
END
$$;

-- Make ready what is held in a task, and let time count again for what has items under way.
-- The caller holds its lock.
CREATE FUNCTION executor.release_held_v1(p_republish interval, p_task_id uuid)
RETURNS SETOF executor.fact LANGUAGE sql AS $$
    UPDATE executor.steps s SET due_at = s.expires_at
    WHERE s.task_id = p_task_id AND s.state = 'WAITING' AND s.waits_for IN ('items', 'steps')
        AND s.due_at IS NULL;
    SELECT f.* FROM (
        SELECT array_agg(s.task_id) AS tasks, array_agg(s.step_id) AS steps
        FROM executor.steps s
        WHERE s.task_id = p_task_id AND s.state = 'BLOCKED' AND s.needs = 0 AND s.open = 0
    ) AS held, executor.wake_v1(p_republish, held.tasks, held.steps, NULL) AS f;
$$;

-- Hold a task that is neither final nor paused. Steps that run go on. A request_id that paused
-- the task last time does nothing.
CREATE FUNCTION executor.pause_task_v1(p_task_id uuid, p_request_id text DEFAULT NULL)
RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE executor.tasks t
    SET state = 'PAUSED', mark = 'PAUSED', pause_request_id = p_request_id
    WHERE t.task_id = p_task_id AND t.state IN ('PENDING', 'RUNNING', 'WAITING')
        AND (p_request_id IS NULL OR t.pause_request_id IS DISTINCT FROM p_request_id);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE executor.steps s SET state = 'BLOCKED', due_at = NULL
    WHERE s.task_id = p_task_id AND s.state::text = 'READY';
    RETURN QUERY SELECT * FROM executor.log_v1(p_task_id, '[7,"",0]');
    RETURN QUERY SELECT * FROM executor.tell_v1(p_task_id, 'PAUSED');
END
$$;

-- Let a PAUSED task go on; one that waits for its concurrency key goes on waiting for it. A
-- request_id that resumed the task last time does nothing.
CREATE FUNCTION executor.resume_task_v1(
    p_republish interval, p_task_id uuid, p_request_id text DEFAULT NULL
) RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_waits boolean;
BEGIN
    -- Whoever gives it its place holds this lock.
    PERFORM executor.lock_tasks(ARRAY[p_task_id]);
    v_waits := EXISTS (SELECT FROM executor.limit_waiters w
        WHERE w.task_id = p_task_id AND w.step_id = '');
    UPDATE executor.tasks t
    SET state = CASE WHEN t.started_at IS NULL THEN 'PENDING' WHEN v_waits THEN 'WAITING'
            ELSE 'RUNNING' END::executor.task_state,
        mark = NULL, resume_request_id = p_request_id
    WHERE t.task_id = p_task_id AND t.state = 'PAUSED'
        AND (p_request_id IS NULL OR t.resume_request_id IS DISTINCT FROM p_request_id);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM executor.log_v1(p_task_id, '[8,"",0]');
    RETURN QUERY SELECT * FROM executor.tell_v1(p_task_id, 'RESUMED');
    IF NOT v_waits THEN
        RETURN QUERY SELECT * FROM executor.release_held_v1(p_republish, p_task_id);
    END IF;
END
$$;

-- Keep a signal for a task that is not final, and hand it to a step that waits for it. A
-- request_id that sent one before does nothing. Returns no EVENTS for a task that is final.
CREATE FUNCTION executor.signal_task_v1(
    p_republish interval, p_task_id uuid, p_name text, p_payload bytea, p_request_id text,
    p_event text
) RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM executor.tasks t
        WHERE t.task_id = p_task_id AND t.ended_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO executor.signals (task_id, name, payload, request_id)
    VALUES (p_task_id, p_name, p_payload, p_request_id)
    ON CONFLICT (task_id, request_id) WHERE request_id IS NOT NULL DO NOTHING;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM executor.log_v1(p_task_id, p_event);
    RETURN QUERY SELECT * FROM executor.deliver_signals_v1(p_republish, ARRAY[p_task_id]);
END
$$;

-- Hand kept signals to the steps that wait for them, oldest signal to first step. The
-- caller holds the tasks' locks.
CREATE FUNCTION executor.deliver_signals_v1(p_republish interval, p_task_ids uuid[])
RETURNS SETOF executor.fact LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    WITH waiting AS (
        SELECT s.task_id, s.step_id, substr(s.waits_for, 8) AS name, row_number() OVER (
            PARTITION BY s.task_id, s.waits_for ORDER BY s.ordinal, s.item NULLS FIRST, s.step_id
        ) AS place
        FROM executor.steps s
        WHERE s.task_id = ANY (p_task_ids) AND s.state = 'WAITING'
            AND s.waits_for LIKE 'signal:%'
    ), kept AS (
        SELECT g.task_id, g.signal_id, g.name, g.payload, row_number() OVER (
            PARTITION BY g.task_id, g.name ORDER BY g.signal_id
        ) AS place
        FROM executor.signals g
        WHERE g.task_id = ANY (p_task_ids) AND g.taken_by IS NULL
    ), taken AS (
        UPDATE executor.signals g SET taken_by = w.step_id
        FROM kept k JOIN waiting w
            ON w.task_id = k.task_id AND w.name = k.name AND w.place = k.place
        WHERE g.task_id = k.task_id AND g.signal_id = k.signal_id
        RETURNING w.task_id, w.step_id, g.payload
    )
    SELECT f.* FROM (
        SELECT array_agg(t.task_id) AS tasks, array_agg(t.step_id) AS steps,
            array_agg(t.payload) AS payloads
        FROM taken t
    ) AS each, executor.wake_v1(p_republish, each.tasks, each.steps, each.payloads) AS f;
$$;

-- Wake the step that waits for a subtask that has ended. One that does not wait yet will
-- look for itself when it is settled.
CREATE FUNCTION executor.wake_parent_v1(
    p_republish interval, p_task_id uuid, p_step_id text, p_child uuid
) RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM executor.lock_tasks(ARRAY[p_task_id]);
    IF EXISTS (SELECT FROM executor.steps s
        WHERE s.task_id = p_task_id AND s.step_id = p_step_id AND s.state = 'WAITING'
            AND s.waits_for = 'task:' || p_child) THEN
        RETURN QUERY SELECT * FROM executor.wake_v1(
            p_republish, ARRAY[p_task_id], ARRAY[p_step_id], NULL);
    END IF;
END
$$;

-- Fail the tasks whose deadline has passed. Attempts under way are held; their results are
-- refused.
CREATE FUNCTION executor.expire_tasks_v1(p_republish interval, p_limit integer)
RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_tasks uuid[];
    v_task uuid;
    v_traits integer;
    v_failure jsonb;
BEGIN
    SELECT array_agg(d.task_id) INTO v_tasks FROM (
        SELECT d.task_id FROM executor.deadlines d
        WHERE d.deadline <= now() ORDER BY d.deadline LIMIT p_limit
    ) AS d;
    IF v_tasks IS NULL THEN
        RETURN;
    END IF;
    PERFORM executor.lock_tasks(v_tasks);
    FOREACH v_task IN ARRAY v_tasks LOOP
        DELETE FROM executor.deadlines d WHERE d.task_id = v_task AND d.deadline <= now();
        CONTINUE WHEN NOT FOUND;
        SELECT t.traits, jsonb_build_object('reason', 'TASK_TIMED_OUT', 'message',
            'the task did not end before ' || to_char(t.deadline AT TIME ZONE 'UTC',
                'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        INTO v_traits, v_failure
        FROM executor.tasks t
        WHERE t.task_id = v_task AND t.ended_at IS NULL AND t.failure IS NULL;
        CONTINUE WHEN NOT FOUND;
        IF (v_traits & 8) <> 0 THEN
            RETURN QUERY SELECT * FROM executor.abandon_v1(ARRAY[v_task]);
        END IF;
        UPDATE executor.steps s
        SET state = 'BLOCKED', attempt = s.attempt + (s.state <> 'READY')::integer,
            session_id = NULL, due_at = NULL, waits_for = NULL, needs = 0, open = 0,
            phase = CASE WHEN s.state = 'WAITING' THEN 0 ELSE s.phase END
        WHERE s.task_id = v_task AND (s.state IN ('READY', 'RUNNING')
            OR (s.state = 'WAITING' AND s.waits_for LIKE 'task:%'));
        DELETE FROM executor.limit_waiters w WHERE w.task_id = v_task AND w.step_id = '';
        IF (v_traits & 32) <> 0 THEN
            UPDATE executor.tasks t SET state = 'RUNNING', mark = NULL, failure = v_failure
            WHERE t.task_id = v_task;
            RETURN QUERY SELECT * FROM executor.log_v1(
                v_task, '[9,"",0,' || v_failure::text || ']');
            RETURN QUERY
            WITH undo AS (
                INSERT INTO executor.steps AS s (task_id, step_id, ordinal, state, tenant_id,
                    queue, priority, due_at, ready_at)
                SELECT t.task_id, '~undo', -1, 'READY', t.tenant_id, 'default', t.priority,
                    now() + p_republish, now()
                FROM executor.tasks t WHERE t.task_id = v_task
                RETURNING s.task_id, s.step_id, s.attempt, s.queue
            )
            SELECT (executor.ready_fact(u.task_id, u.step_id, u.attempt, u.queue)).* FROM undo u;
        ELSE
            UPDATE executor.tasks t
            SET state = 'FAILED', mark = 'FAILED', failure = v_failure, ended_at = now()
            WHERE t.task_id = v_task;
            RETURN QUERY SELECT * FROM executor.log_v1(
                v_task, '[4,"",0,' || v_failure::text || ']');
            RETURN QUERY SELECT * FROM executor.after_end_v1(ARRAY[v_task]);
        END IF;
    END LOOP;
END
$$;

-- Keep what attempts have reported of themselves, for the next attempt.
CREATE FUNCTION executor.heartbeat_v1(
    p_session uuid, p_task_ids uuid[], p_step_ids text[], p_attempts integer[],
    p_details bytea[]
) RETURNS void LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    UPDATE executor.steps s SET heartbeat = r.detail
    FROM unnest(p_task_ids, p_step_ids, p_attempts, p_details)
        AS r (task_id, step_id, attempt, detail)
    WHERE s.task_id = r.task_id AND s.step_id = r.step_id AND s.attempt = r.attempt
        AND s.state::text = 'RUNNING' AND s.session_id = p_session;
$$;
