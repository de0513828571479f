-- What has been given out of the models' rates: how many requests and tokens, in each second
-- of the last minute. Instances take a share for a moment, use it up by themselves, and give
-- back what is left.

-- Its lock is held by whoever gives out.
CREATE TABLE router.rates (name text PRIMARY KEY);

CREATE TABLE router.rate_seconds (
    name text NOT NULL,
    -- Since 1970.
    second bigint NOT NULL,
    given bigint NOT NULL,
    PRIMARY KEY (name, second)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Give out of rates, each named once, after what is no longer wanted was put back.
--
-- Of each, as much as is free of its limit is given, up to what is wanted; nothing when less
-- than the least is free. What is put back names the second in which it was given; it may be
-- negative, for what was used beyond what was given. p_window seconds are looked at, the
-- present one included: the minute for which the limits hold, and the time for which what
-- was given may be kept.
--
-- Returns for each what was given, in which second, and if nothing was, after how many
-- seconds there will be the least.
CREATE FUNCTION router.take_v1(
    p_names text[], p_limits bigint[], p_wanted bigint[], p_least bigint[], p_window integer,
    p_back_names text[], p_back_seconds bigint[], p_back bigint[]
) RETURNS TABLE (name text, second bigint, given bigint, wait_seconds double precision)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_row record;
    v_second bigint;
    v_free bigint;
    v_given bigint;
    v_wait double precision;
BEGIN
    -- What a crash of the server forgets of it is a fraction of a second.
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO router.rates (name)
    SELECT DISTINCT n.name FROM unnest(p_names) AS n (name)
    WHERE NOT EXISTS (SELECT FROM router.rates r WHERE r.name = n.name)
    ORDER BY n.name
    ON CONFLICT DO NOTHING;
    PERFORM FROM router.rates r
    WHERE r.name = ANY (p_names || p_back_names) ORDER BY r.name FOR NO KEY UPDATE;
    UPDATE router.rate_seconds s SET given = s.given - b.given
    FROM (
        SELECT u.name, u.second, sum(u.given)::bigint AS given
        FROM unnest(p_back_names, p_back_seconds, p_back) AS u (name, second, given)
        GROUP BY u.name, u.second
    ) AS b
    WHERE s.name = b.name AND s.second = b.second;
    -- By the clock behind the locks, so that no second is written after it was looked at.
    v_second := floor(extract(epoch FROM clock_timestamp()));
    DELETE FROM router.rate_seconds s
    WHERE s.name = ANY (p_names) AND s.second <= v_second - p_window;
    FOR v_row IN
        SELECT * FROM unnest(p_names, p_limits, p_wanted, p_least)
            AS w (name, maximum, wanted, least)
    LOOP
        v_free := v_row.maximum - coalesce((SELECT sum(s.given) FROM router.rate_seconds s
            WHERE s.name = v_row.name), 0);
        v_given := greatest(least(v_row.wanted, v_free), 0);
        v_wait := 0;
        IF v_given < v_row.least THEN
            v_given := 0;
            -- When the seconds have gone whose sum sets the least free.
            SELECT coalesce(min(o.second), v_second) + p_window
                - extract(epoch FROM clock_timestamp())
            INTO v_wait
            FROM (
                SELECT s.second, sum(s.given) OVER (ORDER BY s.second) AS freed
                FROM router.rate_seconds s WHERE s.name = v_row.name
            ) AS o
            WHERE v_free + o.freed >= v_row.least;
        ELSIF v_given > 0 THEN
            INSERT INTO router.rate_seconds AS s (name, second, given)
            VALUES (v_row.name, v_second, v_given)
            ON CONFLICT (name, second) DO UPDATE SET given = s.given + excluded.given;
        END IF;
        RETURN QUERY SELECT v_row.name, v_second, v_given, v_wait;
    END LOOP;
END
$$;
