-- Statements of usage.

-- name: write_usage
-- Charge what calls cost, write down what they used, and add it to its hours; what was
-- written down is passed over. $1 reservations and $2 what they cost; of each call $3 its id,
-- $4 tenant, $5 project, $6 task, $7 step, $8 request, $9 decision, $10 model, $11 endpoint,
-- $12 outcome, $13 whether it was cached, $14 and estimated, tokens $15 read, $16 written,
-- $17 read from a cache and $18 of reasoning, $19 cost, $20 seconds, $21 seconds until the
-- first token. Returns the shares of budgets that were reached.
WITH written AS (
    INSERT INTO router.usage (usage_id, tenant_id, project, task_id, step_id, request_id,
        decision_id, model, endpoint, outcome, cached, estimated, input_tokens, output_tokens,
        cached_input_tokens, reasoning_tokens, cost_micro_usd, seconds, first_token_seconds)
    SELECT * FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::uuid[], $10::text[], $11::text[], $12::text[], $13::boolean[],
        $14::boolean[], $15::integer[], $16::integer[], $17::integer[], $18::integer[],
        $19::bigint[], $20::real[], $21::real[])
    ON CONFLICT DO NOTHING
    RETURNING *
), summed AS (
    INSERT INTO router.usage_hours AS h (tenant_id, hour, project, model, calls, answered,
        cached, estimated, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens,
        cost_micro_usd)
    SELECT tenant_id, date_trunc('hour', ended_at, 'UTC') AS hour, project, model, count(*),
        count(*) FILTER (WHERE outcome = 'answered'), count(*) FILTER (WHERE cached),
        count(*) FILTER (WHERE estimated), sum(input_tokens), sum(output_tokens),
        sum(cached_input_tokens), sum(reasoning_tokens), sum(cost_micro_usd)
    FROM written
    GROUP BY tenant_id, hour, project, model
    ORDER BY tenant_id, hour, project, model
    ON CONFLICT (tenant_id, hour, project, model) DO UPDATE SET
        calls = h.calls + excluded.calls,
        answered = h.answered + excluded.answered,
        cached = h.cached + excluded.cached,
        estimated = h.estimated + excluded.estimated,
        input_tokens = h.input_tokens + excluded.input_tokens,
        output_tokens = h.output_tokens + excluded.output_tokens,
        cached_input_tokens = h.cached_input_tokens + excluded.cached_input_tokens,
        reasoning_tokens = h.reasoning_tokens + excluded.reasoning_tokens,
        cost_micro_usd = h.cost_micro_usd + excluded.cost_micro_usd
)
SELECT budget_id, key, percent, spent_micro_usd, limit_micro_usd
FROM router.settle_v1($1::uuid[], $2::bigint[])

-- name: sum_hours
-- Sum up hours of usage. $1 tenant, $2 start, $3 end, $4 project, $5 model, '' for all; whether
-- by $6 project and $7 model; $8 `hour`, `day`, `month` or ''; $9 sums left out, $10 most sums.
SELECT CASE WHEN $6 THEN project ELSE '' END AS project, '' AS task_id, '' AS step_id,
    CASE WHEN $7 THEN model ELSE '' END AS model,
    CASE WHEN $8 <> '' THEN date_trunc($8, hour, 'UTC') END AS period_start,
    sum(calls)::bigint AS calls, sum(answered)::bigint AS answered,
    sum(cached)::bigint AS cached, sum(estimated)::bigint AS estimated,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cached_input_tokens)::bigint AS cached_input_tokens,
    sum(reasoning_tokens)::bigint AS reasoning_tokens,
    sum(cost_micro_usd)::bigint AS cost_micro_usd
FROM router.usage_hours
WHERE tenant_id = $1 AND hour >= $2 AND hour < $3 AND ($4 = '' OR project = $4)
    AND ($5 = '' OR model = $5)
GROUP BY 1, 2, 3, 4, 5
ORDER BY 5, 1, 4
OFFSET $9 LIMIT $10

-- name: sum_tries
-- Sum up single tries. $1 tenant, $2 start, $3 end, $4 project, $5 model, '' for all; whether
-- by $6 project and $7 model; $8 `hour`, `day`, `month` or ''; $9 sums left out, $10 most sums;
-- $11 task, '' for all; whether by $12 task and $13 step.
SELECT CASE WHEN $6 THEN project ELSE '' END AS project,
    CASE WHEN $12 THEN task_id ELSE '' END AS task_id,
    CASE WHEN $13 THEN step_id ELSE '' END AS step_id,
    CASE WHEN $7 THEN model ELSE '' END AS model,
    CASE WHEN $8 <> '' THEN date_trunc($8, ended_at, 'UTC') END AS period_start,
    count(*) AS calls, count(*) FILTER (WHERE outcome = 'answered') AS answered,
    count(*) FILTER (WHERE cached) AS cached, count(*) FILTER (WHERE estimated) AS estimated,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cached_input_tokens)::bigint AS cached_input_tokens,
    sum(reasoning_tokens)::bigint AS reasoning_tokens,
    sum(cost_micro_usd)::bigint AS cost_micro_usd
FROM router.usage
WHERE tenant_id = $1 AND ended_at >= $2 AND ended_at < $3 AND ($4 = '' OR project = $4)
    AND ($5 = '' OR model = $5) AND ($11 = '' OR task_id = $11)
GROUP BY 1, 2, 3, 4, 5
ORDER BY 5, 1, 2, 3, 4
OFFSET $9 LIMIT $10

-- name: purge_usage
-- Delete some old tries. $1 first id that stays, $2 most rows.
DELETE FROM router.usage WHERE usage_id IN (
    SELECT usage_id FROM router.usage WHERE usage_id < $1 ORDER BY usage_id LIMIT $2)

-- name: purge_hours
-- Delete old hours. $1 age.
DELETE FROM router.usage_hours WHERE hour < now() - $1::interval
