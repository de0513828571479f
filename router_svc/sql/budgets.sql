-- Statements of budgets.

-- name: next_version
-- Take the number of the next change, and let no other change come before this one has
-- ended.
UPDATE router.budget_version SET version = version + 1 RETURNING version

-- name: count_budgets
-- Count a tenant's budgets. $1 tenant.
SELECT count(*) FROM router.budgets WHERE tenant_id = $1 AND deleted_at IS NULL

-- name: add_budget
-- Add a budget. $1 id, $2 tenant, $3 name, $4 project, $5 task, $6 model, $7 period, $8 split,
-- $9 limit, $10 alarms, $11 shadow, $12 what happens when it is exhausted, $13 version.
INSERT INTO router.budgets (budget_id, tenant_id, name, project, task_id, model, period, split,
    limit_micro_usd, alarm_percents, shadow, on_exhausted, version)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::router.budget_period, $8::text::router.budget_split,
    $9, $10, $11, $12::text::router.budget_action, $13)
RETURNING *

-- name: find_budget
-- Read a budget. $1 tenant, $2 name.
SELECT * FROM router.budgets WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL

-- name: list_budgets
-- Read a tenant's budgets behind a name. $1 tenant, $2 name, $3 most rows.
SELECT * FROM router.budgets
WHERE tenant_id = $1 AND name COLLATE "C" > $2 AND deleted_at IS NULL
ORDER BY name COLLATE "C" LIMIT $3

-- name: change_budget
-- Change what may change of a budget. $1 id, $2 limit, $3 alarms, $4 shadow, $5 what happens
-- when it is exhausted, $6 version.
UPDATE router.budgets
SET limit_micro_usd = $2, alarm_percents = $3, shadow = $4,
    on_exhausted = $5::text::router.budget_action, version = $6, revision = revision + 1,
    updated_at = now()
WHERE budget_id = $1
RETURNING *

-- name: delete_budget
-- Delete a budget; its row stays until every instance knows. $1 id, $2 version.
UPDATE router.budgets SET deleted_at = now(), version = $2 WHERE budget_id = $1

-- name: changed_budgets
-- Read what has changed since a version, in the order of the changes. $1 version.
SELECT * FROM router.budgets WHERE version > $1 ORDER BY version

-- name: present_account
-- Read the present account of a budget without a split. $1 id of the budget.
SELECT a.key, a.spent_micro_usd, a.reserved_micro_usd, a.lost_micro_usd, a.refusals,
    a.alarmed_percent, a.alarmed_limit, router.period_start(b.period, now()) AS period_start,
    router.period_end(b.period, router.period_start(b.period, now())) AS period_end
FROM router.budgets b
LEFT JOIN router.budget_accounts a ON a.budget_id = b.budget_id AND a.key = ''
    AND a.period_start = router.period_start(b.period, now())
WHERE b.budget_id = $1

-- name: list_accounts
-- Read accounts of a budget, the newest period first. $1 id of the budget, $2 key or '' for
-- all, $3 period and $4 key behind which they begin, NULL for the first, $5 most rows.
SELECT a.*, router.period_end(b.period, a.period_start) AS period_end
FROM router.budget_accounts a
JOIN router.budgets b ON b.budget_id = a.budget_id
WHERE a.budget_id = $1 AND ($2 = '' OR a.key = $2)
    AND ($3::timestamptz IS NULL OR a.period_start < $3
        OR (a.period_start = $3 AND a.key > $4 COLLATE "C"))
ORDER BY a.period_start DESC, a.key
LIMIT $5

-- name: reserve
-- Hold what calls can cost at most. $1 session, $2 ids and $3 amounts of the calls, $4 which
-- of them are patient, $5 budgets and $6 keys of the accounts, $7 and $8 which call needs
-- which account, by their places.
SELECT account, period_end, limit_micro_usd, left_micro_usd, refused
FROM router.reserve_v1($1, $2::uuid[], $3::bigint[], $4::boolean[], $5::uuid[], $6::text[],
    $7::integer[], $8::integer[])

-- name: renew_session
-- Keep a session alive. $1 id, $2 for how long.
INSERT INTO router.sessions (session_id, expires_at) VALUES ($1, now() + $2::interval)
ON CONFLICT (session_id) DO UPDATE SET expires_at = excluded.expires_at

-- name: end_session
-- End a session. $1 id.
DELETE FROM router.sessions WHERE session_id = $1

-- name: expire
-- Charge what is held for sessions that have run out. $1 most reservations.
SELECT budget_id, key, percent, spent_micro_usd, limit_micro_usd FROM router.expire_v1($1)

-- name: purge_reservations
-- Remove reservations that were charged so long ago that nobody will settle them. $1 age.
DELETE FROM router.reservations WHERE lost_at < now() - $1::interval

-- name: purge_sessions
-- Remove sessions that ran out long ago. $1 age.
DELETE FROM router.sessions WHERE expires_at < now() - $1::interval

-- name: purge_budgets
-- Remove budgets that were deleted so long ago that every instance knows. $1 age.
DELETE FROM router.budgets WHERE deleted_at < now() - $1::interval

-- name: purge_accounts
-- Remove accounts of periods that ended long ago. $1 age.
DELETE FROM router.budget_accounts a USING router.budgets b
WHERE b.budget_id = a.budget_id
    AND router.period_end(b.period, a.period_start) < now() - $1::interval
