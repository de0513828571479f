-- Slots: the right to have a call of a model under way. A model has as many as its
-- `concurrency`, over all instances together; each instance holds some, uses them for one
-- call after another, and gives them up when others want them or it needs them no more.
--
-- * What is held is kept below the limit under a lock for each model (hold_slots_v1).
-- * No time of this server's clock decides who holds what: an instance that is alive raises
--   the `beat` of its rows, and is dead when another one has seen the same beat for
--   `keeps_seconds` by its own monotonic clock (free_slots).

-- Whose turn it is among those that want slots.
CREATE SEQUENCE router.slot_turns;

CREATE TABLE router.slots (
    model text NOT NULL,
    -- An instance, from its start to its end.
    session_id uuid NOT NULL,
    held integer NOT NULL CHECK (held >= 0),
    -- Beyond what it holds.
    wanted integer NOT NULL CHECK (wanted >= 0),
    -- The concurrency by the instance's own catalogue; the lowest of all counts.
    most integer NOT NULL CHECK (most > 0),
    -- Raised by the instance with each statement.
    beat bigint NOT NULL,
    -- After so many seconds without another beat, none of its calls is under way.
    keeps_seconds double precision NOT NULL,
    -- Since when it wants, in the order of wanting.
    turn bigint NOT NULL,
    -- Who has not asked for a second is passed over. Only fairness hangs on this clock.
    asked_at timestamptz NOT NULL,
    PRIMARY KEY (model, session_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Renew what an instance holds, of each model that is named, give up the rest, and get more.
--
-- All that the instance holds and wants is named, each model once; it holds nothing else
-- from then on. It never holds more than it was given: what was taken from it because it
-- was silent for too long is not its own any more. A statement that is overtaken by a later
-- one of the same instance does nothing but fail.
--
-- Free slots go to those that want them in the order of wanting; who got some goes to the
-- end. Others are told of what is wanted or free, on the channel stepwire_router_slots, as
-- `want` or `free`, the instance and the model.
--
-- Returns for each model what is held now; the lowest limit that any instance goes by; what
-- is free of it, below 0 for what is held beyond it; what others want; and how many
-- instances hold or want any.
CREATE FUNCTION router.hold_slots_v1(
    p_session_id uuid, p_beat bigint, p_models text[], p_held integer[], p_wanted integer[],
    p_most integer[], p_keeps double precision[]
) RETURNS TABLE (
    model text, held integer, most integer, free integer, elsewhere integer, claimants integer
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_row record;
    v_own record;
    v_others record;
    v_held integer;
    v_most integer;
    v_free integer;
    v_given integer;
    v_turn bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(l.key) FROM (
        SELECT DISTINCT hashtextextended('router.slots/' || m.model, 0) AS key
        FROM unnest(p_models) AS m (model) ORDER BY key
    ) AS l;
    IF EXISTS (SELECT FROM router.slots s WHERE s.session_id = p_session_id AND s.beat >= p_beat)
    THEN
        RAISE EXCEPTION 'a later statement of the instance has overtaken this one';
    END IF;
    DELETE FROM router.slots s WHERE s.session_id = p_session_id AND s.model <> ALL (p_models);
    FOR v_row IN
        SELECT * FROM unnest(p_models, p_held, p_wanted, p_most, p_keeps)
            AS c (model, held, wanted, most, keeps)
    LOOP
        SELECT s.held, s.wanted, s.turn INTO v_own
        FROM router.slots s WHERE s.model = v_row.model AND s.session_id = p_session_id;
        v_turn := CASE WHEN v_own.wanted > 0 THEN v_own.turn
            ELSE nextval('router.slot_turns') END;
        SELECT coalesce(sum(s.held), 0)::integer AS held, min(s.most) AS most,
            coalesce(sum(s.wanted) FILTER (WHERE w.fresh), 0)::integer AS wanted,
            coalesce(sum(s.wanted) FILTER (WHERE w.fresh AND s.turn < v_turn), 0)::integer
                AS before,
            (count(*) FILTER (WHERE s.held > 0 OR w.fresh))::integer AS claimants
        INTO v_others
        FROM router.slots s
        CROSS JOIN LATERAL (SELECT s.wanted > 0
            AND s.asked_at > clock_timestamp() - interval '1 second' AS fresh) AS w
        WHERE s.model = v_row.model AND s.session_id <> p_session_id;
        v_most := least(v_row.most, v_others.most);
        v_held := least(v_row.held, coalesce(v_own.held, 0));
        v_free := v_most - v_others.held - v_held;
        v_given := greatest(0, least(v_row.wanted, v_free - v_others.before));
        v_held := v_held + v_given;
        v_free := v_free - v_given;
        IF v_given > 0 THEN
            v_turn := nextval('router.slot_turns');
        END IF;
        IF v_held = 0 AND v_row.wanted = 0 THEN
            DELETE FROM router.slots s
            WHERE s.model = v_row.model AND s.session_id = p_session_id;
        ELSE
            INSERT INTO router.slots (model, session_id, held, wanted, most, beat, keeps_seconds,
                turn, asked_at)
            VALUES (v_row.model, p_session_id, v_held, v_row.wanted - v_given, v_row.most, p_beat,
                v_row.keeps, v_turn, clock_timestamp())
            ON CONFLICT (model, session_id) DO UPDATE SET held = excluded.held,
                wanted = excluded.wanted, most = excluded.most, beat = excluded.beat,
                keeps_seconds = excluded.keeps_seconds, turn = excluded.turn,
                asked_at = excluded.asked_at;
        END IF;
        IF v_row.wanted > v_given AND coalesce(v_own.wanted, 0) = 0 THEN
            PERFORM pg_notify('stepwire_router_slots',
                format('want %s %s', p_session_id, v_row.model));
        END IF;
        IF v_free > 0 AND v_others.wanted > 0 THEN
            PERFORM pg_notify('stepwire_router_slots',
                format('free %s %s', p_session_id, v_row.model));
        END IF;
        RETURN QUERY SELECT v_row.model, v_held, v_most, v_free, v_others.wanted,
            v_others.claimants + 1;
    END LOOP;
END
$$;
