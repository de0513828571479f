-- Retention: the tables that are partitioned by task_id (0001) get partitions ahead of
-- time, and those of the distant past are dropped.
--
-- * A partition of one span has the same name in all tables: TABLE_NAME. What has no
--   partition is in the default one, for good: no partition is made over rows that it has.
-- * Partitions come and go under locks that stop everybody. Callers set a lock_timeout, so
--   that they give way, and do before what takes long.
-- * A task is kept until it has ended and the time of retention has passed since; it is
--   kept longer while there are notices of it, and while its parent is in the record.
-- * A graph is kept while something in the record refers to it, and for days after somebody
--   last said that tasks will run it: so long may an executor count on having said so.

CREATE FUNCTION executor.partitioned() RETURNS text[] LANGUAGE sql IMMUTABLE
    RETURN ARRAY['tasks', 'steps', 'task_events', 'payloads'];

-- The partitions, but for the default one, oldest first: the ids from `lower` to before
-- `upper`.
CREATE FUNCTION executor.partitions_v1()
RETURNS TABLE (name text, lower uuid, upper uuid) LANGUAGE sql STABLE AS $$
    SELECT substr(c.relname, length('tasks_') + 1), bounds[1]::uuid, bounds[2]::uuid
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
        regexp_match(pg_get_expr(c.relpartbound, c.oid),
            'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') AS bounds
    WHERE i.inhparent = 'executor.tasks'::regclass AND bounds IS NOT NULL
    ORDER BY 2;
$$;

-- Make the partitions of a span; false if the default ones have rows of it.
CREATE FUNCTION executor.add_partition_v1(p_name text, p_lower uuid, p_upper uuid)
RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    v_table text;
    v_taken boolean;
    v_options text;
BEGIN
    FOREACH v_table IN ARRAY executor.partitioned() LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM executor.%I WHERE task_id >= $1'
            ' AND task_id < $2)', v_table || '_default')
        INTO v_taken USING p_lower, p_upper;
        IF v_taken THEN
            RETURN false;
        END IF;
    END LOOP;
    FOREACH v_table IN ARRAY executor.partitioned() LOOP
        -- What matters to the pages of today is how many rows have gone, not which share.
        v_options := CASE WHEN v_table IN ('tasks', 'steps') THEN 'fillfactor = 70,' ELSE '' END
            || 'autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,'
            || 'autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = 50000';
        EXECUTE format('CREATE TABLE executor.%I (LIKE executor.%I INCLUDING ALL) WITH (%s)',
            v_table || '_' || p_name, v_table, v_options);
        EXECUTE format('ALTER TABLE executor.%I ATTACH PARTITION executor.%I'
            ' FOR VALUES FROM (%L) TO (%L)', v_table, v_table || '_' || p_name, p_lower, p_upper);
    END LOOP;
    RETURN true;
EXCEPTION WHEN check_violation THEN
    -- A row of the span has come meanwhile.
    RETURN false;
END
$$;

-- Which tasks of a span must outlast its partition, in one look: NULL if these are more
-- than p_most. `marked` counts the others that have a mark: one of them that is retried
-- loses it, or ends anew, and nothing else happens to tasks that have ended.
CREATE FUNCTION executor.kept_v1(
    p_lower uuid, p_upper uuid, p_ended timestamptz, p_most integer,
    OUT kept uuid[], OUT marked bigint
) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE kept AS (
        SELECT t.task_id FROM executor.tasks t
        WHERE t.task_id >= p_lower AND t.task_id < p_upper
            AND (t.ended_at IS NULL OR t.ended_at > p_ended
                OR t.task_id IN (SELECT n.task_id FROM executor.notices n)
                OR (t.parent_task_id IS NOT NULL
                    AND (t.parent_task_id < p_lower OR t.parent_task_id >= p_upper)
                    AND EXISTS (SELECT FROM executor.tasks p WHERE p.task_id = t.parent_task_id)))
        UNION
        SELECT t.task_id FROM kept k JOIN executor.tasks t ON t.parent_task_id = k.task_id
        WHERE t.task_id >= p_lower AND t.task_id < p_upper
    ), first AS MATERIALIZED (
        SELECT k.task_id FROM kept k LIMIT p_most + 1
    )
    SELECT CASE WHEN count(*) <= p_most THEN coalesce(array_agg(f.task_id), '{}') END,
        (SELECT count(*) FROM executor.tasks t
        WHERE t.task_id >= p_lower AND t.task_id < p_upper AND t.mark IS NOT NULL
            AND t.task_id NOT IN (SELECT f.task_id FROM first f))
    FROM first f;
$$;

-- Drop the partitions of a span; the rows of tasks that are kept move to the default ones.
-- False if a task has come to life again since kept_v1 has looked, whether or not it has ended
-- by now.
CREATE FUNCTION executor.drop_partition_v1(
    p_name text, p_kept uuid[], p_marked bigint, p_ended timestamptz
) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    v_table text;
    v_marked bigint;
BEGIN
    -- Nobody has a row in hand from here on: whoever has, has these locks too.
    LOCK TABLE ONLY executor.tasks, ONLY executor.steps, ONLY executor.task_events,
        ONLY executor.payloads IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('SELECT count(*) FROM executor.%I WHERE mark IS NOT NULL'
        ' AND task_id <> ALL ($1) AND ended_at <= $2', 'tasks_' || p_name)
    INTO v_marked USING p_kept, p_ended;
    IF v_marked <> p_marked THEN
        RETURN false;
    END IF;
    FOREACH v_table IN ARRAY executor.partitioned() LOOP
        EXECUTE format('ALTER TABLE executor.%I DETACH PARTITION executor.%I',
            v_table, v_table || '_' || p_name);
        EXECUTE format('INSERT INTO executor.%I SELECT * FROM executor.%I WHERE task_id = ANY ($1)',
            v_table, v_table || '_' || p_name)
        USING p_kept;
        EXECUTE format('DROP TABLE executor.%I', v_table || '_' || p_name);
    END LOOP;
    RETURN true;
END
$$;

-- Delete tasks between two ids that need not be kept, oldest first, and all that belongs to
-- them; those that somebody has in hand are passed over. Returns the last of them, NULL if
-- there was none.
CREATE FUNCTION executor.purge_v1(
    p_lower uuid, p_upper uuid, p_ended timestamptz, p_limit integer
) RETURNS uuid LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_tasks uuid[];
BEGIN
    SELECT array_agg(o.task_id) INTO v_tasks FROM (
        SELECT t.task_id FROM executor.tasks t
        WHERE t.task_id >= p_lower AND t.task_id < p_upper AND t.ended_at <= p_ended
            AND NOT EXISTS (SELECT FROM executor.tasks p WHERE p.task_id = t.parent_task_id)
            AND t.task_id <> ALL (ARRAY(SELECT n.task_id FROM executor.notices n))
        ORDER BY t.task_id LIMIT p_limit
        FOR UPDATE OF t SKIP LOCKED
    ) AS o;
    IF v_tasks IS NULL THEN
        RETURN NULL;
    END IF;
    DELETE FROM executor.payloads p WHERE p.task_id = ANY (v_tasks);
    DELETE FROM executor.task_events e WHERE e.task_id = ANY (v_tasks);
    DELETE FROM executor.steps s WHERE s.task_id = ANY (v_tasks);
    DELETE FROM executor.tasks t WHERE t.task_id = ANY (v_tasks);
    RETURN v_tasks[cardinality(v_tasks)];
END
$$;

-- Delete request ids and signals of tasks that are gone, and their waits for a place under a
-- limit, for ids from p_lower to before p_upper. Returns how many, of which each kind is at
-- most p_limit. The places themselves, and deadlines, their own sweeps find.
CREATE FUNCTION executor.forget_v1(p_lower uuid, p_upper uuid, p_limit integer)
RETURNS bigint LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    WITH requests AS (
        DELETE FROM executor.requests r
        WHERE (r.tenant_id, r.request_id) IN (
            SELECT q.tenant_id, q.request_id FROM executor.requests q
            WHERE q.task_id >= p_lower AND q.task_id < p_upper
                AND NOT EXISTS (SELECT FROM executor.tasks t WHERE t.task_id = q.task_id)
            LIMIT p_limit)
        RETURNING 1
    ), signals AS (
        DELETE FROM executor.signals g
        WHERE (g.task_id, g.signal_id) IN (
            SELECT h.task_id, h.signal_id FROM executor.signals h
            WHERE h.task_id >= p_lower AND h.task_id < p_upper
                AND NOT EXISTS (SELECT FROM executor.tasks t WHERE t.task_id = h.task_id)
            LIMIT p_limit)
        RETURNING 1
    ), waiters AS (
        DELETE FROM executor.limit_waiters w
        WHERE (w.task_id, w.step_id) IN (
            SELECT v.task_id, v.step_id FROM executor.limit_waiters v
            WHERE v.task_id >= p_lower AND v.task_id < p_upper
                AND NOT EXISTS (SELECT FROM executor.tasks t WHERE t.task_id = v.task_id)
            LIMIT p_limit)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM requests) + (SELECT count(*) FROM signals)
        + (SELECT count(*) FROM waiters);
$$;

-- Delete graphs of which nobody has said since p_unused that they will be used, at most
-- p_limit, and that neither a workflow nor a task needs. Returns at how many it has looked:
-- those that are needed count as used now, so that the next look at them comes late.
--
-- p_upper        no task with this id or a later one was made with a graph so old
CREATE FUNCTION executor.drop_graphs_v1(p_unused timestamptz, p_upper uuid, p_limit integer)
RETURNS bigint LANGUAGE sql
SET enable_seqscan = off AS $$
    WITH old AS MATERIALIZED (
        -- Somebody who has one of them in hand says right now that it will be used.
        SELECT g.graph_hash FROM executor.graphs g
        WHERE g.used_at < p_unused ORDER BY g.used_at LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ), needed AS MATERIALIZED (
        SELECT t.graph_hash FROM executor.tasks t WHERE t.task_id < p_upper
        UNION
        SELECT s.graph_hash FROM executor.steps s
        WHERE s.task_id < p_upper AND s.graph_hash IS NOT NULL
        UNION
        SELECT s.added_graph FROM executor.steps s
        WHERE s.task_id < p_upper AND s.added_graph IS NOT NULL
        UNION
        SELECT v.graph_hash FROM executor.workflow_versions v
        WHERE v.graph_hash IN (SELECT o.graph_hash FROM old o)
    ), stays AS (
        UPDATE executor.graphs g SET used_at = now()
        FROM old o
        WHERE g.graph_hash = o.graph_hash
            AND o.graph_hash IN (SELECT n.graph_hash FROM needed n)
    ), goes AS (
        DELETE FROM executor.graphs g USING old o
        WHERE g.graph_hash = o.graph_hash
            AND o.graph_hash NOT IN (SELECT n.graph_hash FROM needed n)
    )
    SELECT count(*) FROM old;
$$;

-- A plan for one call's ids would name only their partitions, and seem cheaper by more than
-- it costs to plan for each call anew. What a general plan does not need, it finds out when
-- it begins.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = 'executor'::regnamespace AND l.lanname = 'plpgsql'
            AND 'enable_seqscan=off' = ANY (p.proconfig)
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = force_generic_plan', v_function);
    END LOOP;
END
$$;
