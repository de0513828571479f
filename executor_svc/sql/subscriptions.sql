-- Statements of subscriptions.

-- name: add_subscription
-- Add a subscription; no row when the name is taken or the tenant has too many. $1 id,
-- $2 tenant, $3 name, $4 events, $5 labels, $6 workflow, $7 URL, $8 key, $9 handler,
-- $10 whether events carry outputs, $11 whether paused, $12 most of a tenant.
INSERT INTO executor.subscriptions (subscription_id, tenant_id, name, events, labels,
    workflow, url, key, key_made_at, handler, include_output, paused)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $8::bytea IS NOT NULL THEN now() END, $9,
    $10, $11
WHERE (SELECT count(*) FROM executor.subscriptions WHERE tenant_id = $2) < $12
ON CONFLICT (tenant_id, name) DO NOTHING
RETURNING *

-- name: find_subscription
-- Read a subscription by name. $1 tenant, $2 name.
SELECT * FROM executor.subscriptions WHERE tenant_id = $1 AND name = $2

-- name: lock_subscription
-- Read a subscription by name and keep others from changing it. $1 tenant, $2 name.
SELECT * FROM executor.subscriptions WHERE tenant_id = $1 AND name = $2 FOR UPDATE

-- name: get_subscription
-- Read a subscription by id. $1 tenant, $2 id.
SELECT * FROM executor.subscriptions WHERE tenant_id = $1 AND subscription_id = $2

-- name: list_subscriptions
-- List a tenant's subscriptions by name. $1 tenant, $2 behind this name, $3 most rows.
SELECT * FROM executor.subscriptions WHERE tenant_id = $1 AND name > $2
ORDER BY name
LIMIT $3

-- name: subscriptions_of
-- Read the subscriptions of tenants. $1 tenants.
SELECT * FROM executor.subscriptions WHERE tenant_id = ANY ($1::text[])

-- name: subscribed_tenants
-- Read which tenants have subscriptions.
SELECT DISTINCT tenant_id FROM executor.subscriptions

-- name: write_subscription
-- Write what can change of a subscription. $1 id, $2 events, $3 labels, $4 workflow, $5 URL,
-- $6 key, $7 key before, $8 its end, $9 handler, $10 whether events carry outputs,
-- $11 whether paused, $12 why.
UPDATE executor.subscriptions
SET events = $2, labels = $3, workflow = $4, url = $5, key = $6,
    key_made_at = CASE WHEN key IS DISTINCT FROM $6 THEN now() ELSE key_made_at END,
    previous_key = $7, previous_until = $8, handler = $9, include_output = $10,
    paused = $11, paused_because = $12, updated_at = now()
WHERE subscription_id = $1
RETURNING *

-- name: pause_subscription
-- Pause a subscription that is not, and was not changed since; no row for another. $1 id,
-- $2 why, $3 when it had been changed.
UPDATE executor.subscriptions
SET paused = true, paused_because = $2, updated_at = now()
WHERE subscription_id = $1 AND NOT paused AND updated_at = $3
RETURNING true

-- name: is_subscription_paused
-- Read whether a subscription is paused. $1 id.
SELECT paused FROM executor.subscriptions WHERE subscription_id = $1

-- name: delete_subscription
-- Delete a subscription; no row when there is none. $1 tenant, $2 name.
DELETE FROM executor.subscriptions WHERE tenant_id = $1 AND name = $2
RETURNING subscription_id

-- name: add_subscription_request
-- Remember a call; no row when its request_id is known. $1 tenant, $2 request id, $3 digest,
-- $4 subscription.
INSERT INTO executor.subscription_requests (tenant_id, request_id, digest, subscription_id)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
RETURNING true

-- name: find_subscription_request
-- Read the call that was made with a request_id. $1 tenant, $2 request id, $3 how long one is
-- remembered.
SELECT digest, subscription_id, created_at FROM executor.subscription_requests
WHERE tenant_id = $1 AND request_id = $2 AND created_at >= now() - $3::interval

-- name: forget_subscription_requests
-- Forget calls that were made long ago. $1 how long.
DELETE FROM executor.subscription_requests WHERE created_at < now() - $1::interval

-- name: read_occurrences
-- Read tasks, each with the batch of events that has a cursor. $1 tasks, $2 cursors.
SELECT r.task_id, r.cursor, t.tenant_id, t.labels, t.workflow, t.workflow_version, t.depth,
    e.last_cursor, e.recorded_at, e.events
FROM unnest($1::uuid[], $2::bigint[]) AS r (task_id, cursor)
JOIN executor.tasks t ON t.task_id = r.task_id
CROSS JOIN LATERAL (
    SELECT * FROM executor.task_events e
    WHERE e.task_id = r.task_id AND e.last_cursor >= r.cursor
    ORDER BY e.last_cursor
    LIMIT 1
) AS e
