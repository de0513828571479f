-- Statements of keys.

-- name: add_key
-- Add a key; a repeat of the same call within a time gives its key another secret, and one
-- that comes later, or asks for something else, gets no row. $1 id, $2 tenant, $3 name,
-- $4 scopes, $5 digest, $6 how long it is good, $7 request id, $8 the time for a repeat.
INSERT INTO gateway.keys AS k (key_id, tenant_id, name, scopes, digest, expires_at, request_id)
VALUES ($1, $2, $3, $4, $5, now() + $6::interval, $7)
ON CONFLICT (tenant_id, request_id) DO UPDATE SET digest = excluded.digest
WHERE k.created_at > now() - $8::interval
    AND k.name = excluded.name AND k.scopes = excluded.scopes
    AND k.expires_at - k.created_at IS NOT DISTINCT FROM $6::interval
    AND k.rotated_at IS NULL AND k.revoked_at IS NULL
RETURNING *

-- name: add_first_key
-- Add a key that settings give, unless it was added before. $1 id, $2 tenant, $3 name,
-- $4 scopes, $5 digest.
INSERT INTO gateway.keys (key_id, tenant_id, name, scopes, digest, request_id)
VALUES ($1, $2, $3, $4, $5, $1)
ON CONFLICT (key_id) DO NOTHING
RETURNING key_id

-- name: find_keys
-- Read keys. $1 ids.
SELECT * FROM gateway.keys WHERE key_id = ANY ($1::text[])

-- name: list_keys
-- List keys, oldest first. $1 tenant or empty, $2 behind this key, or empty, $3 most rows.
SELECT * FROM gateway.keys
WHERE ($1 = '' OR tenant_id = $1)
    AND ($2 = '' OR (created_at, key_id) > (
        SELECT last.created_at, last.key_id FROM gateway.keys last WHERE last.key_id = $2))
ORDER BY created_at, key_id
LIMIT $3

-- name: revoke_key
-- End a key; one that is revoked stays as it is. $1 id.
UPDATE gateway.keys SET revoked_at = coalesce(revoked_at, now())
WHERE key_id = $1
RETURNING *

-- name: rotate_key
-- Give a key that is good another secret. A repeat of the same call within a time leaves the
-- one before as it is. $1 id, $2 digest, $3 how long the one before is good, $4 request id,
-- $5 the time for a repeat.
UPDATE gateway.keys k
SET digest = $2,
    previous_digest = CASE WHEN r.again THEN k.previous_digest ELSE k.digest END,
    previous_until = CASE WHEN r.again THEN k.previous_until ELSE now() + $3::interval END,
    rotated_at = CASE WHEN r.again THEN k.rotated_at ELSE now() END,
    rotation_id = $4
FROM (
    SELECT coalesce(rotation_id = $4 AND rotated_at > now() - $5::interval, false) AS again
    FROM gateway.keys WHERE key_id = $1 FOR UPDATE
) r
WHERE k.key_id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
RETURNING k.*

-- name: touch_keys
-- Note when keys were used last. $1 ids, $2 times.
UPDATE gateway.keys k SET last_used_at = greatest(k.last_used_at, u.used_at)
FROM unnest($1::text[], $2::timestamptz[]) AS u (key_id, used_at)
WHERE k.key_id = u.key_id
