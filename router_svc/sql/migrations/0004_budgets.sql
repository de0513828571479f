-- Budgets, what is held for calls under way, and what was used.
--
-- * Before a call, the most that it can cost is held in every account that it needs
--   (reserve_v1); after it, what it did cost is charged (settle_v1). Spent and held together
--   are kept below the limit under the locks of the accounts.
-- * Locks are taken in one order: reservations, then accounts by budget, key and period,
--   then hours of usage.
-- * What an instance holds counts for as long as the instance may live. Once its session has
--   run out, all of it is charged (expire_v1): the calls may have been made. Should the
--   instance live after all, its settlements correct that.
--
-- The planner would choose by statistics of tables that grow and shrink by the second; the
-- functions say that rows are to be reached by their indexes.

CREATE TYPE router.budget_period AS ENUM ('HOUR', 'DAY', 'WEEK', 'MONTH', 'TOTAL');
CREATE TYPE router.budget_split AS ENUM ('NONE', 'PROJECT', 'TASK', 'MODEL');
CREATE TYPE router.budget_action AS ENUM ('CHEAPER_MODEL', 'REFUSE');

-- One row: the number of the last change. Whoever changes budgets holds its lock, so that
-- numbers appear in their order.
CREATE TABLE router.budget_version (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL DEFAULT 0
);
INSERT INTO router.budget_version DEFAULT VALUES;

CREATE TABLE router.budgets (
    budget_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    name text NOT NULL,
    -- Which calls it covers; empty is any.
    project text NOT NULL,
    task_id text NOT NULL,
    model text NOT NULL,
    period router.budget_period NOT NULL,
    split router.budget_split NOT NULL,
    limit_micro_usd bigint NOT NULL CHECK (limit_micro_usd >= 0),
    alarm_percents smallint[] NOT NULL,
    shadow boolean NOT NULL,
    on_exhausted router.budget_action NOT NULL,
    -- One more with each change by its owner.
    revision integer NOT NULL DEFAULT 1,
    -- By which instances learn of changes; see budget_version.
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- Kept for a while after its deletion, so that every instance learns of it.
    deleted_at timestamptz
);
CREATE UNIQUE INDEX budgets_name ON router.budgets (tenant_id, name COLLATE "C")
    WHERE deleted_at IS NULL;
CREATE INDEX budgets_version ON router.budgets (version);

-- What was spent and is held, by budget, by what it is split by, and period.
CREATE TABLE router.budget_accounts (
    budget_id uuid NOT NULL REFERENCES router.budgets ON DELETE CASCADE,
    key text COLLATE "C" NOT NULL,
    -- 1970 for a budget that never begins anew.
    period_start timestamptz NOT NULL,
    spent_micro_usd bigint NOT NULL DEFAULT 0,
    reserved_micro_usd bigint NOT NULL DEFAULT 0 CHECK (reserved_micro_usd >= 0),
    -- What of it was charged because nobody settled it.
    lost_micro_usd bigint NOT NULL DEFAULT 0,
    refusals bigint NOT NULL DEFAULT 0,
    -- The highest share of the limit of which an alarm was raised, and which limit that was.
    alarmed_percent smallint NOT NULL DEFAULT 0,
    alarmed_limit bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (budget_id, key, period_start)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The instances of the router that are alive.
CREATE TABLE router.sessions (
    session_id uuid PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

-- What is held for calls under way; rows live for moments.
CREATE TABLE router.reservations (
    reservation_id uuid PRIMARY KEY,
    session_id uuid NOT NULL,
    amount_micro_usd bigint NOT NULL CHECK (amount_micro_usd >= 0),
    -- The accounts in which it is held.
    budgets uuid[] NOT NULL,
    keys text[] NOT NULL,
    periods timestamptz[] NOT NULL,
    -- When it was charged because its session had run out.
    lost_at timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX reservations_held ON router.reservations (session_id) WHERE lost_at IS NULL;
CREATE INDEX reservations_lost ON router.reservations (lost_at) WHERE lost_at IS NOT NULL;

-- What each try with a model used.
CREATE TABLE router.usage (
    usage_id uuid PRIMARY KEY,
    ended_at timestamptz NOT NULL DEFAULT now(),
    tenant_id text NOT NULL,
    project text NOT NULL,
    task_id text NOT NULL,
    step_id text NOT NULL,
    request_id text NOT NULL,
    decision_id uuid NOT NULL,
    model text NOT NULL,
    endpoint text NOT NULL,
    -- `answered`, or why it brought no answer.
    outcome text NOT NULL,
    cached boolean NOT NULL,
    estimated boolean NOT NULL,
    input_tokens integer NOT NULL,
    output_tokens integer NOT NULL,
    cached_input_tokens integer NOT NULL,
    reasoning_tokens integer NOT NULL,
    cost_micro_usd bigint NOT NULL,
    seconds real NOT NULL,
    first_token_seconds real
);
CREATE INDEX usage_ended ON router.usage (tenant_id, ended_at);
CREATE INDEX usage_task ON router.usage (tenant_id, task_id, ended_at) WHERE task_id <> '';

-- The same, summed up; written with it.
CREATE TABLE router.usage_hours (
    tenant_id text NOT NULL,
    hour timestamptz NOT NULL,
    project text NOT NULL,
    model text NOT NULL,
    calls bigint NOT NULL,
    answered bigint NOT NULL,
    cached bigint NOT NULL,
    estimated bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cost_micro_usd bigint NOT NULL,
    PRIMARY KEY (tenant_id, hour, project, model)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- When the period began that holds a moment.
CREATE FUNCTION router.period_start(p_period router.budget_period, p_at timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE RETURN CASE p_period
    WHEN 'TOTAL' THEN 'epoch'::timestamptz
    ELSE date_trunc(p_period::text, p_at, 'UTC') END;

-- When a period ends; NULL for never.
CREATE FUNCTION router.period_end(p_period router.budget_period, p_start timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE RETURN CASE p_period
    WHEN 'TOTAL' THEN NULL
    ELSE (p_start AT TIME ZONE 'UTC' + ('1 ' || p_period::text)::interval) AT TIME ZONE 'UTC' END;

-- Hold what calls can cost at most, or find out which accounts have too little left.
--
-- The calls have ids and amounts. Accounts are named by budget and key, each once. Each pair
-- of a call and an account that it needs stands in p_calls and p_accounts, by the places of
-- both (1-based), ordered by the call. A call that is known already stays as it is, so that
-- this may be repeated. That a patient call is refused is not counted: it comes again.
--
-- Returns for each account how it stands now, and the calls that it refused. A call is held
-- for in all of its accounts or in none; one whose budgets are gone is not held for.
CREATE FUNCTION router.reserve_v1(
    p_session_id uuid, p_ids uuid[], p_amounts bigint[], p_patient boolean[],
    p_budgets uuid[], p_keys text[], p_calls integer[], p_accounts integer[]
) RETURNS TABLE (
    account integer, period_start timestamptz, period_end timestamptz,
    limit_micro_usd bigint, left_micro_usd bigint, refused integer[]
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_accounts integer := cardinality(p_budgets);
    v_starts timestamptz[] := array_fill(NULL::timestamptz, ARRAY[v_accounts]);
    v_limits bigint[] := array_fill(NULL::bigint, ARRAY[v_accounts]);
    v_used bigint[] := array_fill(0::bigint, ARRAY[v_accounts]);
    v_held bigint[] := array_fill(0::bigint, ARRAY[v_accounts]);
    v_refusals integer[] := array_fill(0, ARRAY[v_accounts]);
    v_shadow boolean[] := array_fill(false, ARRAY[v_accounts]);
    v_known uuid[];
    v_fits boolean[] := '{}';
    v_refused integer[] := '{}';
    v_by integer[] := '{}';
    v_fit boolean;
    v_new boolean;
    v_short integer[];
    v_first integer;
    v_pair integer := 1;
    v_account integer;
    v_row record;
BEGIN
    INSERT INTO router.budget_accounts (budget_id, key, period_start)
    SELECT b.budget_id, w.key, router.period_start(b.period, now())
    FROM unnest(p_budgets, p_keys) AS w (budget_id, key)
    JOIN router.budgets b ON b.budget_id = w.budget_id AND b.deleted_at IS NULL
    WHERE NOT EXISTS (SELECT FROM router.budget_accounts a WHERE a.budget_id = w.budget_id
        AND a.key = w.key AND a.period_start = router.period_start(b.period, now()))
    ORDER BY b.budget_id, w.key COLLATE "C"
    ON CONFLICT DO NOTHING;
    PERFORM FROM unnest(p_budgets, p_keys) AS w (budget_id, key)
    JOIN router.budgets b ON b.budget_id = w.budget_id
    JOIN router.budget_accounts a ON a.budget_id = w.budget_id AND a.key = w.key
        AND a.period_start = router.period_start(b.period, now())
    ORDER BY a.budget_id, a.key FOR NO KEY UPDATE OF a;
    -- In a statement of its own, which sees what others have done until the locks were had.
    FOR v_row IN
        SELECT w.place, a.period_start, b.limit_micro_usd, b.shadow,
            a.spent_micro_usd + a.reserved_micro_usd AS used
        FROM unnest(p_budgets, p_keys) WITH ORDINALITY AS w (budget_id, key, place)
        JOIN router.budgets b ON b.budget_id = w.budget_id AND b.deleted_at IS NULL
        JOIN router.budget_accounts a ON a.budget_id = w.budget_id AND a.key = w.key
            AND a.period_start = router.period_start(b.period, now())
    LOOP
        v_starts[v_row.place] := v_row.period_start;
        v_limits[v_row.place] := v_row.limit_micro_usd;
        v_shadow[v_row.place] := v_row.shadow;
        v_used[v_row.place] := v_row.used;
    END LOOP;
    v_known := ARRAY(
        SELECT r.reservation_id FROM router.reservations r WHERE r.reservation_id = ANY (p_ids));
    FOR v_call IN 1 .. cardinality(p_ids) LOOP
        v_first := v_pair;
        v_short := '{}';
        v_fit := NOT p_ids[v_call] = ANY (v_known);
        v_new := v_fit;
        WHILE p_calls[v_pair] = v_call LOOP
            v_account := p_accounts[v_pair];
            IF v_new AND v_used[v_account] + p_amounts[v_call] > v_limits[v_account] THEN
                v_short := v_short || v_account;
                IF NOT v_shadow[v_account] THEN
                    v_fit := false;
                    v_refused := v_refused || v_call;
                    v_by := v_by || v_account;
                END IF;
            END IF;
            v_pair := v_pair + 1;
        END LOOP;
        v_fits := v_fits || v_fit;
        IF v_fit OR NOT p_patient[v_call] THEN
            FOREACH v_account IN ARRAY v_short LOOP
                v_refusals[v_account] := v_refusals[v_account] + 1;
            END LOOP;
        END IF;
        IF v_fit THEN
            FOR v_place IN v_first .. v_pair - 1 LOOP
                v_account := p_accounts[v_place];
                v_used[v_account] := v_used[v_account] + p_amounts[v_call];
                v_held[v_account] := v_held[v_account] + p_amounts[v_call];
            END LOOP;
        END IF;
    END LOOP;
    INSERT INTO router.reservations
        (reservation_id, session_id, amount_micro_usd, budgets, keys, periods)
    SELECT p_ids[n.call], p_session_id, p_amounts[n.call], array_agg(p_budgets[n.account]),
        array_agg(p_keys[n.account]), array_agg(v_starts[n.account])
    FROM unnest(p_calls, p_accounts) AS n (call, account)
    WHERE v_fits[n.call] AND v_starts[n.account] IS NOT NULL
    GROUP BY n.call;
    UPDATE router.budget_accounts a
    SET reserved_micro_usd = a.reserved_micro_usd + d.held, refusals = a.refusals + d.refusals
    FROM unnest(p_budgets, p_keys, v_starts, v_held, v_refusals)
        AS d (budget_id, key, period_start, held, refusals)
    WHERE a.budget_id = d.budget_id AND a.key = d.key AND a.period_start = d.period_start
        AND (d.held > 0 OR d.refusals > 0);
    RETURN QUERY
    SELECT d.place::integer, d.period_start, router.period_end(b.period, d.period_start),
        d.limit_micro_usd, d.limit_micro_usd - d.used,
        ARRAY(SELECT r.call FROM unnest(v_refused, v_by) AS r (call, account)
            WHERE r.account = d.place)
    FROM unnest(p_budgets, v_starts, v_limits, v_used) WITH ORDINALITY
        AS d (budget_id, period_start, limit_micro_usd, used, place)
    JOIN router.budgets b ON b.budget_id = d.budget_id
    WHERE d.period_start IS NOT NULL;
END
$$;

-- That an account has reached a share of its limit.
CREATE TYPE router.alarm AS (
    budget_id uuid, key text, period_start timestamptz, percent smallint,
    spent_micro_usd bigint, limit_micro_usd bigint
);

-- Change accounts, each named once: what is no longer held, what was spent, and what of that
-- nobody settled. Returns the alarms that this raises.
CREATE FUNCTION router.book_v1(
    p_budgets uuid[], p_keys text[], p_periods timestamptz[], p_freed bigint[], p_spent bigint[],
    p_lost bigint[]
) RETURNS SETOF router.alarm LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM unnest(p_budgets, p_keys, p_periods) AS d (budget_id, key, period_start)
    JOIN router.budget_accounts a ON a.budget_id = d.budget_id AND a.key = d.key
        AND a.period_start = d.period_start
    ORDER BY a.budget_id, a.key, a.period_start FOR NO KEY UPDATE OF a;
    UPDATE router.budget_accounts a
    SET reserved_micro_usd = a.reserved_micro_usd - d.freed,
        spent_micro_usd = a.spent_micro_usd + d.spent,
        lost_micro_usd = a.lost_micro_usd + d.lost
    FROM unnest(p_budgets, p_keys, p_periods, p_freed, p_spent, p_lost)
        AS d (budget_id, key, period_start, freed, spent, lost)
    WHERE a.budget_id = d.budget_id AND a.key = d.key AND a.period_start = d.period_start;
    RETURN QUERY
    UPDATE router.budget_accounts a
    SET alarmed_percent = r.percent, alarmed_limit = r.limit_micro_usd
    FROM (
        SELECT c.budget_id, c.key, c.period_start, max(p.percent) AS percent, b.limit_micro_usd
        FROM unnest(p_budgets, p_keys, p_periods) AS d (budget_id, key, period_start)
        JOIN router.budget_accounts c ON c.budget_id = d.budget_id AND c.key = d.key
            AND c.period_start = d.period_start
        JOIN router.budgets b ON b.budget_id = d.budget_id
        CROSS JOIN unnest(b.alarm_percents) AS p (percent)
        WHERE b.limit_micro_usd > 0
            AND c.spent_micro_usd >= b.limit_micro_usd * (p.percent / 100.0)
        GROUP BY c.budget_id, c.key, c.period_start, b.limit_micro_usd
    ) AS r
    WHERE a.budget_id = r.budget_id AND a.key = r.key AND a.period_start = r.period_start
        AND (a.alarmed_percent < r.percent OR a.alarmed_limit <> r.limit_micro_usd)
    RETURNING a.budget_id, a.key, a.period_start, a.alarmed_percent, a.spent_micro_usd,
        r.limit_micro_usd;
END
$$;

-- Charge what calls cost, and give the rest of what was held for them back. What is not held,
-- or was settled, is passed over. Returns the alarms that this raises.
CREATE FUNCTION router.settle_v1(p_ids uuid[], p_costs bigint[])
RETURNS SETOF router.alarm LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_sums record;
BEGIN
    WITH gone AS (
        DELETE FROM router.reservations r USING unnest(p_ids, p_costs) AS s (id, cost)
        WHERE r.reservation_id = s.id
        RETURNING r.budgets, r.keys, r.periods, r.amount_micro_usd AS amount, s.cost,
            r.lost_at IS NOT NULL AS lost
    ), sums AS (
        SELECT a.budget_id, a.key, a.period_start,
            sum(CASE WHEN g.lost THEN 0 ELSE g.amount END)::bigint AS freed,
            sum(CASE WHEN g.lost THEN g.cost - g.amount ELSE g.cost END)::bigint AS spent,
            sum(CASE WHEN g.lost THEN - g.amount ELSE 0 END)::bigint AS lost
        FROM gone g, unnest(g.budgets, g.keys, g.periods) AS a (budget_id, key, period_start)
        GROUP BY a.budget_id, a.key, a.period_start
    )
    SELECT array_agg(budget_id) AS budgets, array_agg(key) AS keys,
        array_agg(period_start) AS periods, array_agg(freed) AS freed,
        array_agg(spent) AS spent, array_agg(lost) AS lost
    INTO v_sums FROM sums;
    RETURN QUERY SELECT * FROM router.book_v1(v_sums.budgets, v_sums.keys, v_sums.periods,
        v_sums.freed, v_sums.spent, v_sums.lost);
END
$$;

-- Charge all that is held for sessions that have run out, some at a time. Returns the alarms
-- that this raises, and in a row without a budget how many reservations it were.
CREATE FUNCTION router.expire_v1(p_limit integer)
RETURNS SETOF router.alarm LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_sums record;
    v_count bigint;
BEGIN
    WITH dead AS (
        SELECT r.reservation_id FROM router.reservations r
        WHERE r.lost_at IS NULL AND NOT EXISTS (SELECT FROM router.sessions s
            WHERE s.session_id = r.session_id AND s.expires_at > now())
        ORDER BY r.reservation_id LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), lost AS (
        UPDATE router.reservations r SET lost_at = now() FROM dead d
        WHERE r.reservation_id = d.reservation_id
        RETURNING r.budgets, r.keys, r.periods, r.amount_micro_usd AS amount
    ), sums AS (
        SELECT a.budget_id, a.key, a.period_start, sum(l.amount)::bigint AS amount
        FROM lost l, unnest(l.budgets, l.keys, l.periods) AS a (budget_id, key, period_start)
        GROUP BY a.budget_id, a.key, a.period_start
    )
    SELECT array_agg(budget_id) AS budgets, array_agg(key) AS keys,
        array_agg(period_start) AS periods, array_agg(amount) AS amounts,
        (SELECT count(*) FROM lost) AS count
    INTO v_sums FROM sums;
    RETURN QUERY SELECT * FROM router.book_v1(v_sums.budgets, v_sums.keys, v_sums.periods,
        v_sums.amounts, v_sums.amounts, v_sums.amounts);
    RETURN QUERY SELECT NULL::uuid, NULL::text, NULL::timestamptz, NULL::smallint,
        v_sums.count, NULL::bigint;
END
$$;
