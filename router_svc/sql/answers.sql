-- Statements of the cache.

-- name: find_answers
-- Reads answers that have not expired. $1 keys, $2 tenant.
SELECT key, answer, extract(epoch FROM now() - kept_at)::float8 AS age_seconds
FROM router.answers
WHERE key = ANY($1::bytea[]) AND tenant_id = $2 AND expires_at > now()

-- name: lock_shared
-- Keeps invalidations out until the end of the transaction.
SELECT pg_advisory_xact_lock_shared(hashtext('router.answers'))

-- name: lock
-- Keeps all else that changes answers out, so that numbers appear in their order.
SELECT pg_advisory_xact_lock(hashtext('router.answers'))

-- name: keep_answers
-- Keeps answers, but for those invalidated since they were begun. $1 keys, $2 tenants,
-- $3 models, $4 their versions, $5 tags as JSON, $6 answers, $7 ages in seconds,
-- $8 invalidations known when each was begun, $9 seconds until they expire.
INSERT INTO router.answers
    (key, tenant_id, model, model_version, tags, answer, kept_at, expires_at)
SELECT n.key, n.tenant_id, n.model, n.model_version, t.tags, n.answer,
    now() - make_interval(secs => n.age), now() + make_interval(secs => $9 - n.age)
FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::json[], $6::bytea[],
        $7::float8[], $8::bigint[])
        AS n (key, tenant_id, model, model_version, tags, answer, age, seen),
    LATERAL (SELECT ARRAY(SELECT json_array_elements_text(n.tags)) AS tags) AS t
WHERE NOT EXISTS (
    SELECT FROM router.invalidations i
    WHERE i.number > n.seen AND i.tenant_id = n.tenant_id
        AND (i.tag IS NULL OR i.tag = ANY(t.tags))
        AND (i.model IS NULL OR i.model = n.model)
        AND (i.model_version IS NULL OR i.model_version = n.model_version)
        AND (i.kept_until IS NULL OR now() - make_interval(secs => n.age) <= i.kept_until)
)
ON CONFLICT (key) DO UPDATE SET
    model = excluded.model,
    model_version = excluded.model_version,
    tags = excluded.tags,
    answer = excluded.answer,
    kept_at = excluded.kept_at,
    expires_at = excluded.expires_at
WHERE answers.kept_at <= excluded.kept_at

-- name: invalidate_answers
-- Removes answers. $1 tenant; NULL of each other means any: $2 tag, $3 model, $4 version,
-- $5 age in seconds.
DELETE FROM router.answers
WHERE tenant_id = $1
    AND ($2::text IS NULL OR $2 = ANY(tags))
    AND ($3::text IS NULL OR model = $3)
    AND ($4::text IS NULL OR model_version = $4)
    AND ($5::float8 IS NULL OR kept_at <= now() - make_interval(secs => $5))

-- name: count_answers
-- Counts those that invalidate_answers would remove, with the same parameters.
SELECT count(*) FROM router.answers
WHERE tenant_id = $1
    AND ($2::text IS NULL OR $2 = ANY(tags))
    AND ($3::text IS NULL OR model = $3)
    AND ($4::text IS NULL OR model_version = $4)
    AND ($5::float8 IS NULL OR kept_at <= now() - make_interval(secs => $5))
    AND expires_at > now()

-- name: add_invalidation
-- Tells other instances of it. Parameters as of invalidate_answers.
INSERT INTO router.invalidations (tenant_id, tag, model, model_version, kept_until)
VALUES ($1, $2, $3, $4, now() - make_interval(secs => $5))

-- name: invalidations_after
-- Reads what was invalidated after a number, in order. $1 number, $2 most rows.
SELECT *, extract(epoch FROM now() - kept_until)::float8 AS age_seconds
FROM router.invalidations WHERE number > $1 ORDER BY number LIMIT $2

-- name: newest_invalidations
-- Reads the last ones, the newest first. $1 most rows.
SELECT *, extract(epoch FROM now() - kept_until)::float8 AS age_seconds
FROM router.invalidations ORDER BY number DESC LIMIT $1

-- name: holding
-- Sums up what is kept for a tenant. $1 tenant, $2 most rows.
SELECT model, model_version, count(*) AS answers, sum(octet_length(answer))::bigint AS size_bytes,
    max(extract(epoch FROM now() - kept_at))::float8 AS oldest_seconds
FROM router.answers
WHERE tenant_id = $1 AND expires_at > now()
GROUP BY model, model_version ORDER BY answers DESC, model, model_version LIMIT $2

-- name: purge_expired
-- Removes some answers that have expired. $1 most rows.
DELETE FROM router.answers WHERE key IN (
    SELECT key FROM router.answers WHERE expires_at <= now() LIMIT $1)

-- name: purge_oldest
-- Removes some of those that expire first, where there are more than should be. $1 most
-- answers, $2 most rows.
DELETE FROM router.answers WHERE key IN (
    SELECT key FROM router.answers ORDER BY expires_at
    LIMIT least($2, greatest(0, (SELECT count(*) FROM router.answers) - $1)))

-- name: purge_invalidations
-- Forgets those that are about answers of which none is left. The newest stays, so that
-- numbers go on. $1 age in seconds.
DELETE FROM router.invalidations
WHERE made_at < now() - make_interval(secs => $1)
    AND number < (SELECT max(number) FROM router.invalidations)
