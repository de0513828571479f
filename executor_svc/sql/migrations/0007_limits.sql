-- Limits, and fairness: who has a place under a key, who waits for one, and which of the
-- steps that are ready are published next. The tables of places are in 0001.
--
-- * Places of tasks (concurrency keys; step_id is empty) and of steps (limits) are counted
--   apart, also under the same key.
-- * Whoever gives a place holds the lock of the key's row in executor.limits, so that
--   nobody else counts meanwhile. Whoever frees one only deletes its row, and has admit_v1
--   called after the commit; what died in between is found by the sweep.
-- * A place belongs to a step from acquire_v1 to settle_v1, or to whatever ends the step.
--   That its worker died meanwhile frees nothing.
-- * Starts are rated by GCRA: next_start is when the next one would be due if all came
--   evenly, and it may come as many gaps earlier as the burst allows.

-- When somebody who waits may get a turn by the clock; NULL when nobody waits for that.
ALTER TABLE executor.limits ADD COLUMN due_at timestamptz;
CREATE INDEX limits_due ON executor.limits (due_at) WHERE due_at IS NOT NULL;

-- Before then it does not ask for a place: the start time of a task that starts later.
ALTER TABLE executor.limit_waiters ADD COLUMN not_before timestamptz;
-- Tasks whose policy lets them not wait: 2 CANCEL_IN_PROGRESS, 3 CANCEL_NEWEST.
CREATE INDEX limit_waiters_impatient ON executor.limit_waiters (tenant_id, key, place)
    WHERE policy > 1;

-- Rows live for moments: what matters is how many have gone, not which share.
ALTER TABLE executor.limit_holders
    SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE executor.limit_waiters
    SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE executor.limits
    SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- What part of a queue's room a tenant gets while others wait too: a tenant without a row
-- has weight 1.
CREATE TABLE executor.tenants (
    tenant_id text PRIMARY KEY,
    weight integer NOT NULL CHECK (weight BETWEEN 1 AND 1000)
);

-- How far ahead starts are promised: what is promised is lost if its step is cancelled, and
-- what is not is waited for by the sweep.
CREATE FUNCTION executor.promise_ahead() RETURNS interval LANGUAGE sql IMMUTABLE
    RETURN interval '1 second';

-- Lock the rows of limits, in the order that all follow; those that are not there are made.
CREATE FUNCTION executor.lock_limits(p_tenants text[], p_keys text[])
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_wanted integer;
    v_locked integer;
BEGIN
    SELECT count(DISTINCT (r.tenant_id, r.key)) INTO v_wanted
    FROM unnest(p_tenants, p_keys) AS r (tenant_id, key);
    LOOP
        INSERT INTO executor.limits (tenant_id, key)
        SELECT DISTINCT r.tenant_id, r.key FROM unnest(p_tenants, p_keys) AS r (tenant_id, key)
        WHERE NOT EXISTS (SELECT FROM executor.limits l
            WHERE l.tenant_id = r.tenant_id AND l.key = r.key)
        ORDER BY r.tenant_id, r.key
        ON CONFLICT DO NOTHING;
        PERFORM 1 FROM executor.limits l
        WHERE (l.tenant_id, l.key) IN (
            SELECT r.tenant_id, r.key FROM unnest(p_tenants, p_keys) AS r (tenant_id, key))
        ORDER BY l.tenant_id, l.key FOR NO KEY UPDATE;
        GET DIAGNOSTICS v_locked = ROW_COUNT;
        -- One that was idle may have been deleted in between.
        EXIT WHEN v_locked = v_wanted;
    END LOOP;
END
$$;

-- Take places for attempts that a session runs: each one is ACCEPTED, or its step WAITS
-- from now on, or is no longer the session's. A step that has its place and is early for
-- its start waits for that time alone.
--
-- p_max_running, p_max_starts, p_periods  figures of each limit; 0 is no bound
CREATE FUNCTION executor.acquire_v1(
    p_session uuid, p_task_ids uuid[], p_step_ids text[], p_attempts integer[],
    p_tenants text[], p_keys text[], p_max_running integer[], p_max_starts integer[],
    p_periods interval[]
) RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_want record;
    -- The key at hand: its row, how many places of steps are held (NULL: not counted yet),
    -- how many are given here, and the priority of the first who waits.
    v_limit executor.limits;
    v_held bigint;
    v_given integer;
    v_first smallint;
    v_gap interval;
    v_start timestamptz;
    v_accepted integer[] := '{}';
    -- What was decided: places of wants, and when each may start (NULL: it must queue).
    v_places integer[] := '{}';
    v_starts timestamptz[] := '{}';
    v_limits executor.limits[] := '{}';
BEGIN
    PERFORM executor.lock_limits(p_tenants, p_keys);
    PERFORM executor.lock_tasks(p_task_ids);
    v_now := clock_timestamp();
    FOR v_want IN
        SELECT r.*, s.phase, s.priority, h.task_id IS NOT NULL AS placed
        FROM unnest(p_task_ids, p_step_ids, p_attempts, p_tenants, p_keys, p_max_running,
            p_max_starts, p_periods) WITH ORDINALITY AS r (task_id, step_id, attempt, tenant_id,
                key, max_running, max_starts, period, place)
        JOIN executor.steps s ON s.task_id = r.task_id AND s.step_id = r.step_id
            AND s.attempt = r.attempt AND s.state = 'RUNNING' AND s.session_id = p_session
        LEFT JOIN executor.limit_holders h ON h.tenant_id = r.tenant_id AND h.key = r.key
            AND h.task_id = r.task_id AND h.step_id = r.step_id
        ORDER BY r.tenant_id, r.key, s.priority, r.place
    LOOP
        IF v_want.phase = 1 THEN
            -- By a call whose answer was lost.
            v_accepted := v_accepted || v_want.place::integer;
            CONTINUE;
        END IF;
        IF (v_limit.tenant_id, v_limit.key) IS DISTINCT FROM (v_want.tenant_id, v_want.key) THEN
            v_limits := v_limits || v_limit;
            SELECT * INTO v_limit FROM executor.limits l
            WHERE l.tenant_id = v_want.tenant_id AND l.key = v_want.key;
            v_held := NULL;
            v_given := 0;
            SELECT min(w.priority) INTO v_first FROM executor.limit_waiters w
            WHERE w.tenant_id = v_want.tenant_id AND w.key = v_want.key AND w.step_id > '';
        END IF;
        IF v_held IS NULL AND v_want.max_running > 0 AND NOT v_want.placed THEN
            SELECT count(*) INTO v_held FROM executor.limit_holders h
            WHERE h.tenant_id = v_want.tenant_id AND h.key = v_want.key AND h.step_id > '';
        END IF;
        v_places := v_places || v_want.place::integer;
        IF NOT v_want.placed AND (v_first <= v_want.priority
            OR (v_want.max_running > 0 AND v_held + v_given >= v_want.max_running)) THEN
            -- Whoever comes behind it waits behind it.
            v_first := least(v_first, v_want.priority);
            v_starts := v_starts || NULL::timestamptz;
            CONTINUE;
        END IF;
        v_start := v_now;
        IF v_want.max_starts > 0 THEN
            v_gap := v_want.period / v_want.max_starts;
            v_start := greatest(v_now, v_limit.next_start - (v_want.period - v_gap));
            IF v_start > v_now + executor.promise_ahead() AND NOT v_want.placed THEN
                v_first := least(v_first, v_want.priority);
                v_limit.due_at := least(v_limit.due_at, v_start - executor.promise_ahead());
                v_starts := v_starts || NULL::timestamptz;
                CONTINUE;
            END IF;
            v_limit.next_start := greatest(v_start, v_limit.next_start) + v_gap;
        END IF;
        v_given := v_given + (NOT v_want.placed)::integer;
        v_starts := v_starts || v_start;
        IF v_start <= v_now THEN
            v_accepted := v_accepted || v_want.place::integer;
        END IF;
    END LOOP;
    UPDATE executor.limits l SET next_start = r.next_start, due_at = r.due_at
    FROM unnest(v_limits || v_limit) AS r
    WHERE l.tenant_id = r.tenant_id AND l.key = r.key
        AND (l.next_start, l.due_at) IS DISTINCT FROM (r.next_start, r.due_at);
    INSERT INTO executor.limit_holders (tenant_id, key, task_id, step_id)
    SELECT p_tenants[d.place], p_keys[d.place], p_task_ids[d.place], p_step_ids[d.place]
    FROM unnest(v_places, v_starts) AS d (place, start_at) WHERE d.start_at IS NOT NULL
    ON CONFLICT DO NOTHING;
    UPDATE executor.steps s SET phase = 1
    FROM unnest(v_accepted) AS a (place)
    WHERE s.task_id = p_task_ids[a.place] AND s.step_id = p_step_ids[a.place] AND s.phase <> 1;
    RETURN QUERY
    SELECT 'ACCEPTED', v_accepted, NULL::uuid, NULL, NULL::integer, NULL,
        NULL::executor.started, NULL::bigint, NULL::timestamptz, NULL, NULL, NULL;
    RETURN QUERY
    WITH waiting AS (
        UPDATE executor.steps s
        SET state = 'WAITING', session_id = NULL, waits_for = 'limit:' || p_keys[d.place],
            due_at = least(d.start_at, s.expires_at), publications = 0
        FROM unnest(v_places, v_starts) AS d (place, start_at)
        WHERE s.task_id = p_task_ids[d.place] AND s.step_id = p_step_ids[d.place]
            AND (d.start_at IS NULL OR d.start_at > v_now)
        RETURNING s.task_id, s.step_id, s.attempt, s.priority, d.place, d.start_at
    ), queued AS (
        INSERT INTO executor.limit_waiters AS w (tenant_id, key, priority, task_id, step_id,
            policy, max_running, max_starts, period)
        SELECT p_tenants[g.place], p_keys[g.place], g.priority, g.task_id, g.step_id, 1,
            p_max_running[g.place], p_max_starts[g.place], p_periods[g.place]
        FROM waiting g WHERE g.start_at IS NULL ORDER BY g.place
        -- One that an earlier wait has left over.
        ON CONFLICT (task_id, step_id) DO UPDATE SET tenant_id = excluded.tenant_id,
            key = excluded.key, priority = excluded.priority, policy = excluded.policy,
            max_running = excluded.max_running, max_starts = excluded.max_starts,
            period = excluded.period, not_before = NULL
        RETURNING w.tenant_id, w.key
    ), per_task AS (
        SELECT g.task_id, count(*) AS n, string_agg('[17,"' || g.step_id || '",' || g.attempt
            || ',' || jsonb_build_object('for', 'limit:' || p_keys[g.place]) || ']', ','
            ORDER BY g.place) AS events
        FROM waiting g GROUP BY g.task_id
    ), advanced AS (
        UPDATE executor.tasks t SET last_cursor = t.last_cursor + p.n
        FROM per_task p WHERE t.task_id = p.task_id
        RETURNING t.task_id, t.last_cursor, '[' || p.events || ']' AS events
    ), logged AS (
        INSERT INTO executor.task_events (task_id, last_cursor, events)
        SELECT a.task_id, a.last_cursor, a.events FROM advanced a
    )
    SELECT (executor.events_fact(a.task_id, a.last_cursor, a.events)).* FROM advanced a
    UNION ALL
    -- A place that was freed while this waits to be committed is seen by nobody else.
    SELECT (executor.released_fact(q.tenant_id, q.key)).*
    FROM (SELECT DISTINCT tenant_id, key FROM queued) AS q;
END
$$;

-- Decide which of the steps that wait under a limit get their turn, and when each may start.
-- The caller holds the limit's lock, and carries it out.
CREATE FUNCTION executor.turns_of_steps(
    p_tenant text, p_key text, p_now timestamptz, p_most integer
) RETURNS TABLE (task_id uuid, step_id text, start_at timestamptz) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_limit executor.limits;
    v_waiter executor.limit_waiters;
    v_held bigint;
    v_gap interval;
    v_due timestamptz;
    v_paused text[];
BEGIN
    SELECT * INTO v_limit FROM executor.limits l WHERE l.tenant_id = p_tenant AND l.key = p_key;
    SELECT array_agg(q.queue) INTO v_paused FROM executor.queues q WHERE q.paused;
    SELECT count(*) INTO v_held FROM executor.limit_holders h
    WHERE h.tenant_id = p_tenant AND h.key = p_key AND h.step_id > '';
    FOR v_waiter IN
        SELECT * FROM executor.limit_waiters w
        WHERE w.tenant_id = p_tenant AND w.key = p_key AND w.step_id > ''
            -- It could not start, and would keep others from starting.
            AND (v_paused IS NULL OR NOT EXISTS (SELECT FROM executor.steps s
                WHERE s.task_id = w.task_id AND s.step_id = w.step_id
                    AND s.queue = ANY (v_paused)))
        ORDER BY w.priority, w.place LIMIT p_most
    LOOP
        -- The first who has no room keeps the others waiting: it would wait for ever else.
        EXIT WHEN v_waiter.max_running > 0 AND v_held >= v_waiter.max_running;
        start_at := p_now;
        IF v_waiter.max_starts > 0 THEN
            v_gap := v_waiter.period / v_waiter.max_starts;
            start_at := greatest(p_now, v_limit.next_start - (v_waiter.period - v_gap));
            IF start_at > p_now + executor.promise_ahead() THEN
                v_due := start_at - executor.promise_ahead();
                EXIT;
            END IF;
            v_limit.next_start := greatest(start_at, v_limit.next_start) + v_gap;
        END IF;
        v_held := v_held + 1;
        task_id := v_waiter.task_id;
        step_id := v_waiter.step_id;
        RETURN NEXT;
    END LOOP;
    UPDATE executor.limits l SET next_start = v_limit.next_start, due_at = v_due
    WHERE l.tenant_id = p_tenant AND l.key = p_key
        AND (l.next_start, l.due_at) IS DISTINCT FROM (v_limit.next_start, v_due);
END
$$;

-- Of the tasks that wait for a place under a concurrency key one that is below p_task_id (a
-- subtask of it, or of one of those), if that cannot go on before they have one; NULL if it can:
-- by a step that may run, by the clock, by a signal or a limit, or by its owner.
CREATE FUNCTION executor.stuck_below(p_task_id uuid, p_tenant text, p_key text)
RETURNS uuid LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
DECLARE
    v_child uuid;
    v_found uuid;
BEGIN
    IF EXISTS (SELECT FROM executor.tasks t
            WHERE t.task_id = p_task_id AND t.state NOT IN ('PENDING', 'RUNNING'))
        OR EXISTS (SELECT FROM executor.steps s
            WHERE s.task_id = p_task_id AND (s.state::text IN ('READY', 'RUNNING')
                OR (s.state::text = 'WAITING' AND (s.due_at IS NOT NULL
                    OR NOT (s.waits_for IN ('items', 'steps') OR s.waits_for LIKE 'task:%'))))) THEN
        RETURN NULL;
    END IF;
    FOR v_child IN
        SELECT substr(s.waits_for, 6)::uuid FROM executor.steps s
        WHERE s.task_id = p_task_id AND s.state::text = 'WAITING' AND s.waits_for LIKE 'task:%'
    LOOP
        IF EXISTS (SELECT FROM executor.limit_waiters w
            WHERE w.task_id = v_child AND w.step_id = ''
                AND w.tenant_id = p_tenant AND w.key = p_key) THEN
            v_found := v_child;
        ELSE
            v_found := executor.stuck_below(v_child, p_tenant, p_key);
        END IF;
        EXIT WHEN v_found IS NULL;
    END LOOP;
    RETURN v_found;
END
$$;

-- Decide which of the tasks that ask for a place under a concurrency key get it, and which
-- tasks are cancelled instead (`ends`), why, and in favour of whom. The caller holds the
-- limit's lock, has had the turns of its steps decided, and carries it out.
CREATE FUNCTION executor.turns_of_tasks(
    p_tenant text, p_key text, p_now timestamptz, p_most integer
) RETURNS TABLE (task_id uuid, ends boolean, detail jsonb) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_waiter executor.limit_waiters;
    -- Who has a place, or gets one here; oldest first.
    v_running uuid[];
    v_full boolean := false;
    v_given boolean := false;
    v_task uuid;
    v_stuck uuid;
BEGIN
    SELECT coalesce(array_agg(h.task_id ORDER BY h.since, h.task_id), '{}') INTO v_running
    FROM executor.limit_holders h
    WHERE h.tenant_id = p_tenant AND h.key = p_key AND h.step_id = '';
    FOR v_waiter IN
        SELECT * FROM executor.limit_waiters w
        WHERE w.tenant_id = p_tenant AND w.key = p_key AND w.step_id = '' AND w.policy <= 1
            AND (w.not_before IS NULL OR w.not_before <= p_now)
        ORDER BY w.priority, w.place LIMIT p_most
    LOOP
        v_full := cardinality(v_running) >= v_waiter.max_running;
        EXIT WHEN v_full;
        v_given := true;
        v_running := v_running || v_waiter.task_id;
        task_id := v_waiter.task_id;
        ends := false;
        RETURN NEXT;
    END LOOP;
    IF v_full AND NOT v_given THEN
        -- Where all who have a place wait for subtasks that ask for one, none would ever be free.
        FOREACH v_task IN ARRAY v_running LOOP
            v_stuck := executor.stuck_below(v_task, p_tenant, p_key);
            EXIT WHEN v_stuck IS NULL;
        END LOOP;
        IF v_stuck IS NOT NULL THEN
            task_id := v_stuck;
            ends := true;
            detail := jsonb_build_object('concurrency_key', p_key, 'deadlock', true);
            RETURN NEXT;
        END IF;
    END IF;
    FOR v_waiter IN
        SELECT * FROM executor.limit_waiters w
        WHERE w.tenant_id = p_tenant AND w.key = p_key AND w.step_id = '' AND w.policy > 1
            AND (w.not_before IS NULL OR w.not_before <= p_now)
        ORDER BY w.place LIMIT p_most
    LOOP
        detail := jsonb_build_object('concurrency_key', p_key);
        ends := true;
        IF v_waiter.policy = 3 AND cardinality(v_running) >= v_waiter.max_running THEN
            task_id := v_waiter.task_id;
            detail := detail || jsonb_build_object('policy', 'CANCEL_NEWEST');
            RETURN NEXT;
            CONTINUE;
        END IF;
        WHILE cardinality(v_running) >= v_waiter.max_running LOOP
            task_id := v_running[1];
            v_running := v_running[2:];
            detail := detail || jsonb_build_object(
                'policy', 'CANCEL_IN_PROGRESS', 'in_favour_of', v_waiter.task_id);
            RETURN NEXT;
        END LOOP;
        v_running := v_running || v_waiter.task_id;
        task_id := v_waiter.task_id;
        ends := false;
        RETURN NEXT;
    END LOOP;
    UPDATE executor.limits l SET due_at = least(l.due_at, (
        SELECT min(w.not_before) FROM executor.limit_waiters w
        WHERE w.tenant_id = p_tenant AND w.key = p_key AND w.step_id = ''
            AND w.not_before > p_now))
    WHERE l.tenant_id = p_tenant AND l.key = p_key AND EXISTS (
        SELECT FROM executor.limit_waiters w
        WHERE w.tenant_id = p_tenant AND w.key = p_key AND w.not_before > p_now);
END
$$;

-- Give the places that are free under limits to those that wait, in order of priority, then
-- of arrival; each goes by its own figures. A limit that is RELEASED by this is to be looked
-- at again.
--
-- p_most  most tasks and most steps of each limit
CREATE FUNCTION executor.admit_v1(
    p_republish interval, p_tenants text[], p_keys text[], p_most integer
) RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_limit record;
    v_turns record;
    v_tenants text[];
    v_keys text[];
    -- Who gets a place, and who is cancelled.
    v_tasks uuid[] := '{}';
    v_steps text[] := '{}';
    v_starts timestamptz[] := '{}';
    v_ended uuid[] := '{}';
    v_details jsonb[] := '{}';
    v_task uuid;
BEGIN
    -- Whoever begins to wait has this called again after its commit, so that a waiter that
    -- is not seen here is not forgotten.
    SELECT array_agg(r.tenant_id), array_agg(r.key) INTO v_tenants, v_keys
    FROM (SELECT DISTINCT u.* FROM unnest(p_tenants, p_keys) AS u (tenant_id, key)) AS r
    WHERE EXISTS (SELECT FROM executor.limit_waiters w
        WHERE w.tenant_id = r.tenant_id AND w.key = r.key);
    IF v_tenants IS NULL THEN
        RETURN;
    END IF;
    PERFORM executor.lock_limits(v_tenants, v_keys);
    v_now := clock_timestamp();
    FOR v_limit IN SELECT * FROM unnest(v_tenants, v_keys) AS r (tenant_id, key) LOOP
        SELECT array_agg(n.task_id) AS tasks, array_agg(n.step_id) AS steps,
            array_agg(n.start_at) AS starts, count(*) AS given
        INTO v_turns
        FROM executor.turns_of_steps(v_limit.tenant_id, v_limit.key, v_now, p_most) AS n;
        v_tasks := v_tasks || v_turns.tasks;
        v_steps := v_steps || v_turns.steps;
        v_starts := v_starts || v_turns.starts;
        IF v_turns.given >= p_most THEN
            RETURN NEXT executor.released_fact(v_limit.tenant_id, v_limit.key);
        END IF;
        SELECT array_agg(n.task_id) FILTER (WHERE NOT n.ends) AS tasks,
            array_agg(''::text) FILTER (WHERE NOT n.ends) AS steps,
            array_agg(v_now) FILTER (WHERE NOT n.ends) AS starts,
            array_agg(n.task_id) FILTER (WHERE n.ends) AS ended,
            array_agg(n.detail) FILTER (WHERE n.ends) AS details, count(*) AS given
        INTO v_turns
        FROM executor.turns_of_tasks(v_limit.tenant_id, v_limit.key, v_now, p_most) AS n;
        v_tasks := v_tasks || v_turns.tasks;
        v_steps := v_steps || v_turns.steps;
        v_starts := v_starts || v_turns.starts;
        v_ended := v_ended || v_turns.ended;
        v_details := v_details || v_turns.details;
        IF v_turns.given >= p_most THEN
            RETURN NEXT executor.released_fact(v_limit.tenant_id, v_limit.key);
        END IF;
    END LOOP;
    PERFORM executor.lock_tasks(v_tasks || v_ended);
    RETURN QUERY SELECT * FROM executor.give_places_v1(
        p_republish, v_now, v_tasks, v_steps, v_starts, v_ended);
    FOR v_limit IN SELECT * FROM unnest(v_ended, v_details) AS e (task_id, detail) LOOP
        IF v_limit.detail ? 'deadlock' THEN
            -- For the step that waits for it to tell.
            UPDATE executor.tasks t SET failure = jsonb_build_object('message', format(
                'all tasks that have a place under the concurrency key %L wait for such subtasks',
                v_limit.detail ->> 'concurrency_key'))
            WHERE t.task_id = v_limit.task_id;
        END IF;
        RETURN QUERY SELECT * FROM executor.cancel_task_v1(v_limit.task_id, v_limit.detail);
    END LOOP;
END
$$;

-- Give places to steps, from when they may start, and to tasks (with an empty step id), but
-- for tasks that are cancelled all the same. What does not wait any more gets none; what
-- waits in a task that does not go on is held instead. The caller holds the locks of the
-- limits and of the tasks.
CREATE FUNCTION executor.give_places_v1(
    p_republish interval, p_now timestamptz, p_task_ids uuid[], p_step_ids text[],
    p_starts timestamptz[], p_ended uuid[]
) RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_tenants text[];
    v_keys text[];
    v_tasks uuid[];
    v_steps text[];
    v_starts timestamptz[];
    v_takes boolean[];
    v_waits boolean[];
BEGIN
    WITH gone AS (
        DELETE FROM executor.limit_waiters w
        USING unnest(p_task_ids, p_step_ids, p_starts) AS r (task_id, step_id, start_at)
        WHERE w.task_id = r.task_id AND w.step_id = r.step_id
            AND NOT (r.step_id = '' AND r.task_id = ANY (p_ended))
        RETURNING w.tenant_id, w.key, w.task_id, w.step_id, r.start_at
    ), found AS (
        SELECT g.*, s.state = 'WAITING' AND s.waits_for = 'limit:' || g.key AS waits,
            executor.is_live(t.state, t.failure, g.step_id) AS live
        FROM gone g
        JOIN executor.tasks t ON t.task_id = g.task_id
        LEFT JOIN executor.steps s ON s.task_id = g.task_id AND s.step_id = g.step_id
    )
    SELECT array_agg(f.tenant_id), array_agg(f.key), array_agg(f.task_id),
        array_agg(f.step_id), array_agg(f.start_at),
        array_agg(f.step_id = '' OR coalesce(f.waits AND f.live, false)),
        array_agg(coalesce(f.waits, false))
    INTO v_tenants, v_keys, v_tasks, v_steps, v_starts, v_takes, v_waits
    FROM found f;
    INSERT INTO executor.limit_holders (tenant_id, key, task_id, step_id, since)
    SELECT r.tenant_id, r.key, r.task_id, r.step_id, clock_timestamp()
    FROM unnest(v_tenants, v_keys, v_tasks, v_steps, v_takes)
        AS r (tenant_id, key, task_id, step_id, takes)
    WHERE r.takes
    ON CONFLICT DO NOTHING;
    UPDATE executor.steps s SET due_at = least(r.start_at, s.expires_at)
    FROM unnest(v_tasks, v_steps, v_starts, v_takes) AS r (task_id, step_id, start_at, takes)
    WHERE s.task_id = r.task_id AND s.step_id = r.step_id AND r.takes AND r.start_at > p_now;
    RETURN QUERY
    SELECT f.* FROM (
        SELECT array_agg(r.task_id) AS tasks, array_agg(r.step_id) AS steps
        FROM unnest(v_tasks, v_steps, v_starts, v_takes, v_waits)
            AS r (task_id, step_id, start_at, takes, waits)
        WHERE r.waits AND (r.start_at <= p_now OR NOT r.takes)
    ) AS due, executor.wake_v1(p_republish, due.tasks, due.steps, NULL) AS f;
    -- A task that was retried, and has waited since.
    UPDATE executor.tasks t SET state = 'RUNNING'
    FROM unnest(v_tasks, v_steps) AS r (task_id, step_id)
    WHERE r.step_id = '' AND t.task_id = r.task_id AND t.state = 'WAITING';
    RETURN QUERY
    SELECT f.* FROM unnest(v_tasks, v_steps) AS r (task_id, step_id),
        executor.release_held_v1(p_republish, r.task_id) AS f
    WHERE r.step_id = '';
    RETURN QUERY
    SELECT DISTINCT (executor.released_fact(r.tenant_id, r.key)).*
    FROM unnest(v_tenants, v_keys, v_takes) AS r (tenant_id, key, takes) WHERE NOT r.takes;
END
$$;

-- Free the places of tasks that have ended and of steps that neither run nor are about to,
-- and forget limits that nobody uses. What frees places itself leaves little of this.
CREATE FUNCTION executor.tidy_limits_v1(p_most integer)
RETURNS SETOF executor.fact LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_tenants text[];
    v_keys text[];
BEGIN
    SELECT array_agg(k.tenant_id), array_agg(k.key) INTO v_tenants, v_keys
    FROM (
        SELECT DISTINCT h.tenant_id, h.key FROM executor.limit_holders h
        WHERE NOT executor.keeps_place(h) LIMIT p_most
    ) AS k;
    IF v_tenants IS NOT NULL THEN
        -- A step that has begun to run again meanwhile takes its place anew behind this lock.
        PERFORM executor.lock_limits(v_tenants, v_keys);
        RETURN QUERY
        WITH gone AS (
            DELETE FROM executor.limit_holders h
            USING unnest(v_tenants, v_keys) AS r (tenant_id, key)
            WHERE h.tenant_id = r.tenant_id AND h.key = r.key AND NOT executor.keeps_place(h)
            RETURNING h.tenant_id, h.key
        )
        SELECT DISTINCT (executor.released_fact(g.tenant_id, g.key)).* FROM gone g;
    END IF;
    DELETE FROM executor.limits l
    USING (
        SELECT i.tenant_id, i.key FROM executor.limits i
        WHERE i.next_start < now() - interval '1 hour'
            AND NOT EXISTS (SELECT FROM executor.limit_waiters w
                WHERE w.tenant_id = i.tenant_id AND w.key = i.key)
            AND NOT EXISTS (SELECT FROM executor.limit_holders h
                WHERE h.tenant_id = i.tenant_id AND h.key = i.key)
        LIMIT p_most FOR UPDATE SKIP LOCKED
    ) AS idle
    WHERE l.tenant_id = idle.tenant_id AND l.key = idle.key;
END
$$;

-- Whether the holder of a place still needs it.
CREATE FUNCTION executor.keeps_place(p_holder executor.limit_holders)
RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off AS $$
BEGIN
    IF p_holder.step_id = '' THEN
        RETURN EXISTS (SELECT FROM executor.tasks t
            WHERE t.task_id = p_holder.task_id AND t.ended_at IS NULL);
    END IF;
    RETURN EXISTS (SELECT FROM executor.steps s
        WHERE s.task_id = p_holder.task_id AND s.step_id = p_holder.step_id
            AND (s.state = 'RUNNING'
                OR (s.state = 'WAITING' AND s.waits_for = 'limit:' || p_holder.key)
                -- A late claim asks for its place anew (claim_v1); where none can come, the place
                -- is for others, unless an attempt that was lost may still be at work.
                OR (s.state = 'READY' AND NOT (
                    s.phase = 1 AND s.losses = 0
                    AND s.ready_at < now() - executor.promise_ahead()
                    AND s.queue IN (SELECT q.queue FROM executor.queues q WHERE q.paused)))));
END
$$;

-- Take steps of a queue that were not published yet, to publish them: those of a higher
-- priority first, and among equals so many of each tenant as its weight says. Which of
-- several tenants comes first is left to chance, so that small amounts are fair too.
CREATE FUNCTION executor.release_v1(p_republish interval, p_queue text, p_room integer)
RETURNS TABLE (task_id uuid, step_id text, attempt integer, queue text) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_priority smallint := 0;
    v_room integer := p_room;
    v_found integer;
BEGIN
    IF EXISTS (SELECT FROM executor.queues q WHERE q.queue = p_queue AND q.paused) THEN
        RETURN;
    END IF;
    WHILE v_room > 0 LOOP
        SELECT s.priority INTO v_priority FROM executor.steps s
        WHERE s.state = 'READY' AND s.due_at IS NULL AND s.queue = p_queue
            AND s.priority >= v_priority
        ORDER BY s.priority LIMIT 1;
        EXIT WHEN NOT FOUND;
        RETURN QUERY
        WITH RECURSIVE waiting AS (
            (SELECT s.tenant_id FROM executor.steps s
                WHERE s.state = 'READY' AND s.due_at IS NULL AND s.queue = p_queue
                    AND s.priority = v_priority
                ORDER BY s.tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT s.tenant_id FROM executor.steps s
                WHERE s.state = 'READY' AND s.due_at IS NULL AND s.queue = p_queue
                    AND s.priority = v_priority AND s.tenant_id > w.tenant_id
                ORDER BY s.tenant_id LIMIT 1)
            FROM waiting w WHERE w.tenant_id IS NOT NULL
        ), shares AS MATERIALIZED (
            SELECT w.tenant_id, coalesce(t.weight, 1) AS weight, random() AS start,
                sum(coalesce(t.weight, 1)) OVER () AS weights
            FROM waiting w LEFT JOIN executor.tenants t ON t.tenant_id = w.tenant_id
            WHERE w.tenant_id IS NOT NULL
        ), chosen AS MATERIALIZED (
            -- The n-th step of a tenant has its turn at (n - start) / weight.
            SELECT c.task_id, c.step_id
            FROM shares h CROSS JOIN LATERAL (
                SELECT s.task_id, s.step_id, row_number() OVER (ORDER BY s.task_id) AS n
                FROM executor.steps s
                WHERE s.state = 'READY' AND s.due_at IS NULL AND s.queue = p_queue
                    AND s.priority = v_priority AND s.tenant_id = h.tenant_id
                ORDER BY s.task_id
                LIMIT 2 + 2 * v_room * h.weight / h.weights
            ) AS c
            ORDER BY (c.n - h.start) / h.weight LIMIT v_room
        ), taken AS (
            SELECT n.task_id, n.step_id
            FROM chosen c CROSS JOIN LATERAL (
                SELECT s.task_id, s.step_id FROM executor.steps s
                -- Not IS NULL, which would invite the index above to a scan.
                WHERE s.task_id = c.task_id AND s.step_id = c.step_id
                    AND s.state = 'READY' AND coalesce(s.due_at, '-infinity') = '-infinity'
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS n
        )
        UPDATE executor.steps s SET due_at = now() + p_republish
        FROM taken k WHERE s.task_id = k.task_id AND s.step_id = k.step_id
        RETURNING s.task_id, s.step_id, s.attempt, s.queue;
        GET DIAGNOSTICS v_found = ROW_COUNT;
        v_room := v_room - v_found;
        IF v_found = 0 THEN
            -- What is left of this priority somebody else has in hand.
            v_priority := v_priority + 1;
        END IF;
    END LOOP;
END
$$;
