-- The transitions of tasks and steps, one function each, so that a batch of them costs
-- one round trip.
--
-- Rules that hold in all of them:
-- * Locks are taken in one order: worker session, then tasks by task_id. Whoever holds a
--   task's lock alone changes the task, its steps and its events.
-- * A step is written only by the attempt and session that run it.
-- * Events are numbered under the task's lock, so a task's cursors have no gap.
--
-- Event types are the numbers of TaskEventType. Step ids hold only [a-z0-9_] and
-- brackets, so they need no escaping in JSON.

-- What a transition tells its caller, one row per fact:
--   ACCEPTED ordinality                          the settlement was recorded
--   STARTED  task_id step_id ordinal attempt items failures
--                                                a next step, claimed for the session
--   READY    task_id step_id attempt queue       a step to publish
--   EVENTS   task_id last_cursor recorded_at events
--                                                events to publish
CREATE TYPE executor.fact AS (
    kind text,
    ordinality integer,
    task_id uuid,
    step_id text,
    ordinal integer,
    attempt integer,
    items integer,
    failures integer,
    queue text,
    last_cursor bigint,
    recorded_at timestamptz,
    events text
);

-- Hold what waits in tasks that have failed, until RetryTask. A claim that is under way
-- finds another attempt than its own.
CREATE FUNCTION executor.hold_v1(p_task_ids uuid[]) RETURNS void LANGUAGE sql AS $$
    UPDATE executor.steps s
    SET attempt = s.attempt + (s.state = 'READY')::integer, state = 'BLOCKED',
        due_at = NULL, waiting_for = 0
    WHERE s.task_id = ANY (p_task_ids)
        AND (s.state = 'READY' OR (s.state = 'WAITING' AND s.due_at IS NOT NULL));
$$;

-- Claim ready steps for a worker session. Steps that are not READY in the attempt given
-- are passed over: their message was doubled or late.
CREATE FUNCTION executor.claim_v1(
    p_session uuid, p_task_ids uuid[], p_step_ids text[], p_attempts integer[]
) RETURNS TABLE (
    task_id uuid, step_id text, ordinal integer, item integer, items integer,
    attempt integer, failures integer, item_input bytea, tenant_id text, graph_hash bytea,
    input bytea, input_type text, traceparent text, last_cursor bigint,
    recorded_at timestamptz, events text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM executor.worker_sessions w
        WHERE w.session_id = p_session FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM 1 FROM executor.tasks t
        WHERE t.task_id = ANY (p_task_ids) ORDER BY t.task_id FOR NO KEY UPDATE;
    RETURN QUERY
    WITH claimed AS (
        UPDATE executor.steps s
        SET state = 'RUNNING', session_id = p_session, started_at = now(), due_at = NULL
        FROM unnest(p_task_ids, p_step_ids, p_attempts) AS r (task_id, step_id, attempt)
        WHERE s.task_id = r.task_id AND s.step_id = r.step_id
            AND s.attempt = r.attempt AND s.state = 'READY'
        RETURNING s.task_id, s.step_id, s.ordinal, s.item, s.items, s.attempt, s.failures,
            s.item_input
    ), per_task AS (
        -- A for_each step that comes back to gather its items has started before.
        SELECT c.task_id, count(*) FILTER (WHERE c.items IS NULL) AS n,
            string_agg('[10,"' || c.step_id || '",' || c.attempt || ']', ',')
                FILTER (WHERE c.items IS NULL) AS events
        FROM claimed c GROUP BY c.task_id
    ), advanced AS (
        UPDATE executor.tasks t
        SET state = 'RUNNING', started_at = coalesce(t.started_at, now()),
            last_cursor = t.last_cursor + p.n + (t.started_at IS NULL)::integer
        FROM per_task p, executor.tasks old
        WHERE t.task_id = p.task_id AND old.task_id = p.task_id
        RETURNING t.task_id, t.tenant_id, t.graph_hash, t.input, t.input_type, t.traceparent,
            t.last_cursor,
            '[' || CASE WHEN old.started_at IS NULL THEN '[2,"",0],' ELSE '' END
                || p.events || ']' AS events
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT a.task_id, a.last_cursor, a.events::json FROM advanced a
        WHERE a.events IS NOT NULL
    )
    SELECT c.task_id, c.step_id, c.ordinal, c.item, c.items, c.attempt, c.failures,
        c.item_input, a.tenant_id, a.graph_hash, a.input, a.input_type, a.traceparent,
        a.last_cursor, now(), a.events
    FROM claimed c JOIN advanced a ON a.task_id = c.task_id;
END
$$;

-- Record how attempts ended, and do what follows from it. A settlement whose attempt is
-- no longer the session's is refused: no ACCEPTED fact is returned for it.
--
-- p_*            settlements: new state (SUCCEEDED, WAITING or FAILED), output, failure,
--                time of the next attempt, number of items started, whether the step is
--                a sink, and the settlement's event as JSON
-- p_next_*       steps that a settlement (p_next_from, 1-based) makes ready: the next
--                step of a chain, or items; p_next_claim claims it for the session
-- p_join_*       steps that count a settlement (p_join_from, 1-based) as arrived
-- p_republish    after what time the sweeper publishes a READY step again
CREATE FUNCTION executor.settle_v1(
    p_session uuid, p_republish interval,
    p_task_ids uuid[], p_step_ids text[], p_attempts integer[],
    p_states executor.step_state[], p_outputs bytea[], p_output_types text[],
    p_failures jsonb[], p_due_ats timestamptz[], p_items integer[], p_sinks boolean[],
    p_events text[],
    p_next_from integer[], p_next_step_ids text[], p_next_ordinals integer[],
    p_next_item integer[], p_next_queues text[], p_next_inputs bytea[],
    p_next_claim boolean[],
    p_join_from integer[], p_join_step_ids text[], p_join_claim boolean[]
) RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_failed uuid[];
BEGIN
    -- A session that is being given up must not be given steps: nobody would look for them.
    PERFORM 1 FROM executor.worker_sessions w
        WHERE w.session_id = p_session FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM 1 FROM executor.tasks t
        WHERE t.task_id = ANY (p_task_ids) ORDER BY t.task_id FOR NO KEY UPDATE;
    -- Tasks that fail by this batch: nothing new starts in them.
    IF 'FAILED' = ANY (p_states) THEN
        SELECT array_agg(DISTINCT s.task_id) INTO v_failed
        FROM unnest(p_task_ids, p_step_ids, p_attempts, p_states)
            AS r (task_id, step_id, attempt, state)
        JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
            AND s.attempt = r.attempt AND s.state = 'RUNNING' AND s.session_id = p_session
        WHERE r.state = 'FAILED';
    END IF;
    RETURN QUERY
    WITH settled AS (
        UPDATE executor.steps s
        SET state = CASE WHEN r.due_at IS NOT NULL AND NOT r.live THEN 'BLOCKED'
                ELSE r.state END::executor.step_state,
            output = r.output,
            output_type = r.output_type,
            failure = coalesce(r.failure, s.failure),
            failures = s.failures + (r.failure IS NOT NULL)::integer,
            attempt = s.attempt + (r.due_at IS NOT NULL)::integer,
            due_at = CASE WHEN r.live THEN r.due_at END,
            publications = 0,
            items = coalesce(r.items, s.items),
            waiting_for = coalesce(r.items, 0),
            session_id = NULL,
            ended_at = CASE WHEN r.state = 'WAITING' THEN NULL ELSE now() END
        FROM (
            SELECT u.*,
                t.state = 'RUNNING' AND t.task_id <> ALL (coalesce(v_failed, '{}')) AS live
            FROM unnest(p_task_ids, p_step_ids, p_attempts, p_states, p_outputs,
                p_output_types, p_failures, p_due_ats, p_items, p_sinks, p_events)
                WITH ORDINALITY AS u (task_id, step_id, attempt, state, output, output_type,
                    failure, due_at, items, sink, event, ordinality)
            JOIN executor.tasks t ON t.task_id = u.task_id
        ) AS r
        WHERE s.task_id = r.task_id AND s.step_id = r.step_id AND s.attempt = r.attempt
            AND s.state = 'RUNNING' AND s.session_id = p_session
        RETURNING r.ordinality::integer, s.task_id, s.step_id, r.state, r.failure, r.sink,
            r.event, r.live
    ), next AS (
        INSERT INTO executor.steps AS s (task_id, step_id, ordinal, item, state, queue,
            item_input, session_id, due_at, started_at)
        SELECT l.task_id, n.step_id, n.ordinal, n.item,
            CASE WHEN NOT l.live THEN 'BLOCKED' WHEN n.claim THEN 'RUNNING'
                ELSE 'READY' END::executor.step_state,
            n.queue, n.input,
            CASE WHEN l.live AND n.claim THEN p_session END,
            CASE WHEN l.live AND NOT n.claim THEN now() + p_republish END,
            CASE WHEN l.live AND n.claim THEN now() END
        FROM unnest(p_next_from, p_next_step_ids, p_next_ordinals, p_next_item, p_next_queues,
            p_next_inputs, p_next_claim)
            AS n ("from", step_id, ordinal, item, queue, input, claim)
        JOIN settled l ON l.ordinality = n."from"
        RETURNING s.task_id, s.step_id, s.ordinal, s.state, s.attempt, s.items, s.failures,
            s.queue
    ), arrived AS (
        SELECT l.task_id, j.step_id, count(*)::integer AS n, bool_and(j.claim) AS claim,
            bool_and(l.live) AS live
        FROM unnest(p_join_from, p_join_step_ids, p_join_claim) AS j ("from", step_id, claim)
        JOIN settled l ON l.ordinality = j."from"
        GROUP BY l.task_id, j.step_id
    ), joined AS (
        UPDATE executor.steps s
        SET waiting_for = s.waiting_for - a.n,
            state = CASE
                WHEN s.waiting_for > a.n THEN s.state
                WHEN NOT a.live THEN 'BLOCKED'
                WHEN a.claim THEN 'RUNNING' ELSE 'READY' END::executor.step_state,
            session_id = CASE WHEN s.waiting_for = a.n AND a.live AND a.claim
                THEN p_session END,
            due_at = CASE WHEN s.waiting_for = a.n AND a.live AND NOT a.claim
                THEN now() + p_republish END,
            started_at = CASE WHEN s.waiting_for = a.n AND a.live AND a.claim
                THEN now() ELSE s.started_at END
        FROM arrived a
        WHERE s.task_id = a.task_id AND s.step_id = a.step_id
            AND s.state IN ('BLOCKED', 'WAITING')
        RETURNING s.task_id, s.step_id, s.ordinal, s.state, s.attempt, s.items, s.failures,
            s.queue
    ), awakened AS (
        SELECT * FROM next UNION ALL SELECT * FROM joined
    ), happened AS (
        SELECT x.task_id, x.ordinality AS place, x.event FROM settled x
        UNION ALL
        SELECT k.task_id, 1000000, '[10,"' || k.step_id || '",' || k.attempt || ']'
        FROM awakened k WHERE k.state = 'RUNNING' AND k.items IS NULL
    ), per_task AS (
        SELECT h.task_id, count(*) AS n, string_agg(h.event, ',' ORDER BY h.place) AS events
        FROM happened h GROUP BY h.task_id
    ), sinks AS (
        SELECT x.task_id,
            count(*) FILTER (WHERE x.sink AND x.state = 'SUCCEEDED') AS closed,
            (array_agg(x.failure || jsonb_build_object('step_id', x.step_id)
                ORDER BY x.ordinality) FILTER (WHERE x.state = 'FAILED'))[1] AS failure
        FROM settled x GROUP BY x.task_id
    ), ends AS (
        SELECT t.task_id, k.closed, k.failure,
            CASE
                WHEN t.state <> 'RUNNING' THEN t.state
                WHEN k.failure IS NOT NULL THEN 'FAILED'
                WHEN t.open_sinks = k.closed THEN 'SUCCEEDED'
                ELSE t.state END AS state,
            CASE
                WHEN t.state <> 'RUNNING' THEN ''
                WHEN k.failure IS NOT NULL THEN ',[4,"",0,' || k.failure::text || ']'
                WHEN t.open_sinks = k.closed THEN ',[3,"",0]'
                ELSE '' END AS event
        FROM sinks k JOIN executor.tasks t ON t.task_id = k.task_id
    ), advanced AS (
        UPDATE executor.tasks t
        SET open_sinks = t.open_sinks - e.closed,
            state = e.state,
            failure = CASE WHEN e.state = t.state THEN t.failure ELSE e.failure END,
            ended_at = CASE WHEN e.state = t.state THEN t.ended_at ELSE now() END,
            last_cursor = t.last_cursor + p.n + (e.event <> '')::integer
        FROM ends e JOIN per_task p ON p.task_id = e.task_id
        WHERE t.task_id = e.task_id
        RETURNING t.task_id, t.last_cursor, '[' || p.events || e.event || ']' AS events
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT a.task_id, a.last_cursor, a.events::json FROM advanced a
    )
    SELECT 'ACCEPTED', x.ordinality, NULL::uuid, NULL, NULL::integer, NULL::integer,
        NULL::integer, NULL::integer, NULL, NULL::bigint,
        NULL::timestamptz, NULL
    FROM settled x
    UNION ALL
    SELECT CASE k.state WHEN 'RUNNING' THEN 'STARTED' ELSE 'READY' END, NULL, k.task_id,
        k.step_id, k.ordinal, k.attempt, k.items, k.failures, k.queue, NULL, NULL,
        NULL
    FROM awakened k WHERE k.state IN ('RUNNING', 'READY')
    UNION ALL
    SELECT 'EVENTS', NULL, a.task_id, NULL, NULL, NULL, NULL, NULL, NULL, a.last_cursor,
        now(), a.events
    FROM advanced a;
    PERFORM executor.hold_v1(v_failed);
END
$$;

-- Take steps from the sessions that run them: they are ready again, or fail once they have
-- been lost too often. The caller holds the locks of the sessions, or is the session itself.
CREATE FUNCTION executor.lose_steps_v1(
    p_sessions uuid[], p_task_ids uuid[], p_step_ids text[],
    p_republish interval, p_max_losses integer
) RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_failed uuid[];
BEGIN
    PERFORM 1 FROM executor.tasks t
        WHERE t.task_id = ANY (p_task_ids) ORDER BY t.task_id FOR NO KEY UPDATE;
    SELECT array_agg(DISTINCT s.task_id) INTO v_failed
    FROM unnest(p_task_ids, p_step_ids) AS r (task_id, step_id)
    JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
        AND s.state = 'RUNNING' AND s.session_id = ANY (p_sessions)
    WHERE s.losses + 1 > p_max_losses;
    RETURN QUERY
    WITH lost AS (
        UPDATE executor.steps s
        SET state = CASE
                WHEN s.losses + 1 > p_max_losses THEN 'FAILED'
                WHEN r.live THEN 'READY' ELSE 'BLOCKED' END::executor.step_state,
            attempt = s.attempt + (s.losses + 1 <= p_max_losses)::integer,
            losses = s.losses + 1,
            publications = 0,
            session_id = NULL,
            due_at = CASE WHEN s.losses + 1 <= p_max_losses AND r.live
                THEN now() + p_republish END,
            failure = CASE WHEN s.losses + 1 > p_max_losses THEN jsonb_build_object(
                'reason', 'STEP_WORKER_LOST',
                'message', 'the workers that ran the step died ' || s.losses + 1 || ' times')
                ELSE s.failure END,
            ended_at = CASE WHEN s.losses + 1 > p_max_losses THEN now() END
        FROM (
            SELECT u.task_id, u.step_id,
                t.state = 'RUNNING' AND t.task_id <> ALL (coalesce(v_failed, '{}')) AS live
            FROM unnest(p_task_ids, p_step_ids) AS u (task_id, step_id)
            JOIN executor.tasks t ON t.task_id = u.task_id
        ) AS r
        WHERE s.task_id = r.task_id AND s.step_id = r.step_id
            AND s.state = 'RUNNING' AND s.session_id = ANY (p_sessions)
        RETURNING s.task_id, s.step_id, s.state, s.attempt, s.queue, s.failure
    ), per_task AS (
        SELECT l.task_id, count(*) AS n,
            string_agg(CASE l.state
                WHEN 'FAILED' THEN '[13,"' || l.step_id || '",' || l.attempt || ','
                    || l.failure::text || ']'
                ELSE '[14,"' || l.step_id || '",' || l.attempt - 1 || ']' END, ',') AS events,
            (array_agg(l.failure || jsonb_build_object('step_id', l.step_id))
                FILTER (WHERE l.state = 'FAILED'))[1] AS failure
        FROM lost l GROUP BY l.task_id
    ), ends AS (
        SELECT p.*, t.state = 'RUNNING' AND p.failure IS NOT NULL AS fails
        FROM per_task p JOIN executor.tasks t ON t.task_id = p.task_id
    ), advanced AS (
        UPDATE executor.tasks t
        SET state = CASE WHEN e.fails THEN 'FAILED' ELSE t.state END,
            failure = CASE WHEN e.fails THEN e.failure ELSE t.failure END,
            ended_at = CASE WHEN e.fails THEN now() ELSE t.ended_at END,
            last_cursor = t.last_cursor + e.n + e.fails::integer
        FROM ends e WHERE t.task_id = e.task_id
        RETURNING t.task_id, t.last_cursor, '[' || e.events
            || CASE WHEN e.fails THEN ',[4,"",0,' || e.failure::text || ']' ELSE '' END || ']'
            AS events
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT a.task_id, a.last_cursor, a.events::json FROM advanced a
    )
    SELECT 'READY', NULL::integer, l.task_id, l.step_id, NULL::integer, l.attempt,
        NULL::integer, NULL::integer, l.queue, NULL::bigint, NULL::timestamptz, NULL
    FROM lost l WHERE l.state = 'READY'
    UNION ALL
    SELECT 'EVENTS', NULL, a.task_id, NULL, NULL, NULL, NULL, NULL, NULL, a.last_cursor,
        now(), a.events
    FROM advanced a;
    PERFORM executor.hold_v1(v_failed);
END
$$;

-- Give back the steps of worker sessions whose lease has run out, and forget the sessions.
CREATE FUNCTION executor.expire_sessions_v1(
    p_republish interval, p_max_losses integer, p_limit integer
) RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_sessions uuid[];
    v_tasks uuid[];
    v_steps text[];
BEGIN
    SELECT array_agg(w.session_id) INTO v_sessions
    FROM (
        SELECT w.session_id FROM executor.worker_sessions w
        WHERE w.expires_at < now() ORDER BY w.session_id LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ) AS w;
    IF v_sessions IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(s.task_id), array_agg(s.step_id) INTO v_tasks, v_steps
    FROM executor.steps s
    WHERE s.state = 'RUNNING' AND s.session_id = ANY (v_sessions);
    RETURN QUERY SELECT * FROM executor.lose_steps_v1(
        v_sessions, v_tasks, v_steps, p_republish, p_max_losses);
    DELETE FROM executor.worker_sessions w WHERE w.session_id = ANY (v_sessions);
END
$$;

-- Cancel a task that is not final: no step of it starts or is recorded from here on.
CREATE FUNCTION executor.cancel_task_v1(p_task_id uuid)
RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM executor.tasks t
        WHERE t.task_id = p_task_id AND t.ended_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE executor.steps s
    SET state = 'CANCELLED', session_id = NULL, due_at = NULL, ended_at = now()
    WHERE s.task_id = p_task_id AND s.state IN ('BLOCKED', 'READY', 'RUNNING', 'WAITING');
    RETURN QUERY
    WITH advanced AS (
        UPDATE executor.tasks t
        SET state = 'CANCELLED', ended_at = now(), last_cursor = t.last_cursor + 1
        WHERE t.task_id = p_task_id
        RETURNING t.task_id, t.last_cursor
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT a.task_id, a.last_cursor, '[[5,"",0]]' FROM advanced a
    )
    SELECT 'EVENTS', NULL::integer, a.task_id, NULL, NULL::integer, NULL::integer,
        NULL::integer, NULL::integer, NULL, a.last_cursor, now(), '[[5,"",0]]'
    FROM advanced a;
END
$$;

-- Continue a FAILED task: its failed steps and those held are ready again. A request_id
-- that continued the task last time does nothing.
CREATE FUNCTION executor.retry_task_v1(
    p_task_id uuid, p_request_id text, p_republish interval
) RETURNS SETOF executor.fact LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM executor.tasks t
        WHERE t.task_id = p_task_id AND t.state = 'FAILED'
            AND (p_request_id IS NULL OR t.retry_request_id IS DISTINCT FROM p_request_id)
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH ready AS (
        UPDATE executor.steps s
        SET state = 'READY', attempt = s.attempt + (s.state = 'FAILED')::integer,
            failures = 0, losses = 0, publications = 0, due_at = now() + p_republish,
            ended_at = NULL
        WHERE s.task_id = p_task_id
            AND (s.state = 'FAILED' OR (s.state = 'BLOCKED' AND s.waiting_for = 0))
        RETURNING s.task_id, s.step_id, s.attempt, s.queue
    ), advanced AS (
        UPDATE executor.tasks t
        SET state = 'RUNNING', failure = NULL, ended_at = NULL,
            retry_request_id = p_request_id, last_cursor = t.last_cursor + 1
        WHERE t.task_id = p_task_id
        RETURNING t.task_id, t.last_cursor
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT a.task_id, a.last_cursor, '[[6,"",0]]' FROM advanced a
    )
    SELECT 'READY', NULL::integer, r.task_id, r.step_id, NULL::integer, r.attempt,
        NULL::integer, NULL::integer, r.queue, NULL::bigint, NULL::timestamptz, NULL
    FROM ready r
    UNION ALL
    SELECT 'EVENTS', NULL, a.task_id, NULL, NULL, NULL, NULL, NULL, NULL, a.last_cursor,
        now(), '[[6,"",0]]'
    FROM advanced a;
END
$$;
