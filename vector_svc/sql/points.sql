-- Statements on the points of one collection. {collection_id}, {type} (of its vectors),
-- {loose} (the same of any length; `bit` alone means one bit),
-- {role} (of its tenant) and {condition} (a compiled filter) are filled in from our own
-- numbers and constants, never from what a caller sent. {live} holds for points whose time
-- has not come.
--
-- Ids are compared byte by byte (COLLATE "C"), which is the order of their code points,
-- and so the order in which Python sorts them.

-- name: create_points
-- The table of a collection's points, and its indexes but that of its vectors.
-- Vectors stay in their rows while they fit: fetching them from elsewhere costs several
-- times what comparing them does.
-- GIN without its list of pending entries: every search would read through that list.
CREATE TABLE vector.points_{collection_id} (
    id text COLLATE "C" PRIMARY KEY,
    embedding {type}({dimension}) NOT NULL,
    payload jsonb NOT NULL CONSTRAINT payload_is_object CHECK (jsonb_typeof(payload) = 'object'),
    updated_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT 'infinity'
);
ALTER TABLE vector.points_{collection_id} ALTER COLUMN embedding SET STORAGE {storage};
CREATE INDEX points_{collection_id}_payload ON vector.points_{collection_id}
    USING gin (payload jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX points_{collection_id}_expires_at ON vector.points_{collection_id} (expires_at)
    WHERE expires_at < 'infinity';
GRANT SELECT, INSERT, UPDATE, DELETE ON vector.points_{collection_id} TO {role};

-- name: add_field
-- A column for a field of the payload, always in step with it, and its index.
ALTER TABLE vector.points_{collection_id}
    ADD COLUMN f_{field} {field_type}
        GENERATED ALWAYS AS (vector.{kind}_of(payload -> '{field}')) STORED,
    ADD CONSTRAINT field_{field} CHECK (vector.is_{kind}(payload -> '{field}'));
CREATE INDEX points_{collection_id}_f_{field} ON vector.points_{collection_id} (f_{field});

-- name: drop_field
ALTER TABLE vector.points_{collection_id}
    DROP CONSTRAINT field_{field},
    DROP COLUMN f_{field};

-- name: drop_points
DROP TABLE vector.points_{collection_id}

-- name: count_points
SELECT count(*) FROM vector.points_{collection_id} AS points WHERE {live}

-- name: stats
SELECT
    count(*) FILTER (WHERE {live}) AS point_count,
    count(*) FILTER (WHERE {live} AND expires_at < 'infinity') AS expiring_points,
    pg_table_size('vector.points_{collection_id}') AS table_bytes,
    pg_indexes_size('vector.points_{collection_id}') AS index_bytes,
    coalesce((
        SELECT sum(pg_relation_size(indexrelid)) FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
        WHERE indrelid = 'vector.points_{collection_id}'::regclass
            AND amname IN ('hnsw', 'ivfflat')
    ), 0)::bigint AS vector_index_bytes,
    coalesce((
        SELECT n_dead_tup FROM pg_stat_user_tables
        WHERE relid = 'vector.points_{collection_id}'::regclass
    ), 0) AS dead_points,
    (
        SELECT greatest(last_analyze, last_autoanalyze) FROM pg_stat_user_tables
        WHERE relid = 'vector.points_{collection_id}'::regclass
    ) AS analyzed_at,
    (
        SELECT count(*) FROM vector.query_samples
        WHERE query_samples.collection_id = {collection_id}
    ) AS query_samples
FROM vector.points_{collection_id} AS points

-- name: lock_hashes
-- The contents of points that are to be written, locked until it is done, and whether they
-- are stored so already.
-- $1 ids, ascending, $2 embeddings, $3 payloads
SELECT points.id,
    vector.content_hash({type}_send(points.embedding), points.payload) AS content_hash,
    points.embedding = new.embedding AND points.payload = new.payload AS same
FROM unnest($1::text[], $2::{loose}[], $3::jsonb[]) AS new (id, embedding, payload)
JOIN vector.points_{collection_id} AS points USING (id)
WHERE {live}
ORDER BY points.id
FOR UPDATE OF points

-- name: upsert
-- Points that are the same already are left alone: a repeated request costs little. One whose
-- time had come is not there: what takes its place is inserted, as vector.revive() counts.
-- $1 ids, ascending, $2 embeddings, $3 payloads, $4 expires_at, null for never
WITH written AS (
    INSERT INTO vector.points_{collection_id} AS points (id, embedding, payload, expires_at)
    SELECT id, embedding, payload, coalesce(expires_at, 'infinity')
    FROM unnest($1::text[], $2::{loose}[], $3::jsonb[], $4::timestamptz[])
        AS new (id, embedding, payload, expires_at)
    ON CONFLICT (id) DO UPDATE
    SET embedding = excluded.embedding, payload = excluded.payload,
        expires_at = excluded.expires_at,
        updated_at = CASE WHEN {live} THEN now() ELSE vector.revive() END
    WHERE points.embedding <> excluded.embedding OR points.payload <> excluded.payload
        OR points.expires_at <> excluded.expires_at OR NOT {live}
    RETURNING points.xmax = 0 AS inserted
)
SELECT cardinality($1::text[]) AS upserted,
    count(*) FILTER (WHERE inserted) + vector.revived() AS inserted,
    count(*) FILTER (WHERE NOT inserted) - vector.revived() AS updated
FROM written

-- name: insert_only
-- As upsert, of points that do not exist.
WITH written AS (
    INSERT INTO vector.points_{collection_id} AS points (id, embedding, payload, expires_at)
    SELECT id, embedding, payload, coalesce(expires_at, 'infinity')
    FROM unnest($1::text[], $2::{loose}[], $3::jsonb[], $4::timestamptz[])
        AS new (id, embedding, payload, expires_at)
    ON CONFLICT (id) DO UPDATE
    SET embedding = excluded.embedding, payload = excluded.payload,
        expires_at = excluded.expires_at, updated_at = now()
    WHERE points.expires_at <= now()
    RETURNING id
)
SELECT count(*) AS upserted, count(*) AS inserted, 0::bigint AS updated FROM written

-- name: update_only
-- As upsert, of points that exist.
WITH new AS MATERIALIZED (
    SELECT new.id, new.embedding, new.payload,
        coalesce(new.expires_at, 'infinity') AS expires_at
    FROM unnest($1::text[], $2::{loose}[], $3::jsonb[], $4::timestamptz[])
        AS new (id, embedding, payload, expires_at)
    JOIN vector.points_{collection_id} AS points USING (id)
    WHERE points.expires_at > now()
    ORDER BY id
    FOR UPDATE OF points
), written AS (
    UPDATE vector.points_{collection_id} AS points
    SET embedding = new.embedding, payload = new.payload, expires_at = new.expires_at,
        updated_at = now()
    FROM new
    WHERE points.id = new.id AND (
        points.embedding <> new.embedding OR points.payload <> new.payload
        OR points.expires_at <> new.expires_at
    )
    RETURNING points.id
)
SELECT (SELECT count(*) FROM new) AS upserted, 0::bigint AS inserted,
    (SELECT count(*) FROM written) AS updated

-- name: get
-- $1 ids, $2 whether with embeddings, $3 whether with hashes
SELECT id, payload, nullif(expires_at, 'infinity') AS expires_at,
    CASE WHEN $2 THEN embedding END AS embedding,
    CASE WHEN $3 THEN vector.content_hash({type}_send(embedding), payload) ELSE '' END
        AS content_hash
FROM vector.points_{collection_id} AS points
WHERE id = ANY ($1) AND {live}

-- name: delete
-- The rows are locked in the order of their ids first, as upserts do.
-- $1 on: the ids, or the filter's
WITH doomed AS MATERIALIZED (
    SELECT id FROM vector.points_{collection_id} AS points
    WHERE {condition} AND {live} ORDER BY id FOR UPDATE
), deleted AS (
    DELETE FROM vector.points_{collection_id} AS points
    USING doomed WHERE points.id = doomed.id RETURNING points.id
)
SELECT count(*) FROM deleted

-- name: update_payloads
-- {change} is the new payload: of $1, and of the old one where that says so. Nothing is
-- written if one would be too large, and the first of these comes back.
-- $1 the change, $2 most bytes of a payload, null for any, $3 ids or the filter's on
WITH chosen AS MATERIALIZED (
    SELECT id, payload AS before, {change} AS payload
    FROM vector.points_{collection_id} AS points
    WHERE {condition} AND {live} ORDER BY id FOR UPDATE
), too_large AS MATERIALIZED (
    SELECT id, octet_length(payload::text) AS bytes FROM chosen
    WHERE $2::bigint IS NOT NULL AND octet_length(payload::text) > $2
    ORDER BY id LIMIT 1
), updated AS (
    UPDATE vector.points_{collection_id} AS points
    SET payload = chosen.payload, updated_at = now()
    FROM chosen
    WHERE points.id = chosen.id AND chosen.payload <> chosen.before
        AND NOT EXISTS (SELECT FROM too_large)
    RETURNING points.id
)
SELECT (SELECT count(*) FROM updated), too_large.id, too_large.bytes
FROM (SELECT) AS one LEFT JOIN too_large ON true

-- name: scroll
-- $1 id after which, $2 most rows, $3 whether with embeddings, $4 on: the filter's
SELECT id, payload, nullif(expires_at, 'infinity') AS expires_at,
    CASE WHEN $3 THEN embedding END AS embedding,
    '' AS content_hash
FROM vector.points_{collection_id} AS points
WHERE id > $1 AND {condition} AND {live}
ORDER BY id
LIMIT $2

-- name: count_where
-- $1 most to count, null for all, $2 on: the filter's
SELECT count(*) FROM (
    SELECT FROM vector.points_{collection_id} AS points WHERE {condition} AND {live} LIMIT $1
) AS counted

-- name: facet
-- $1 field, $2 most rows, $3 on: the filter's
SELECT payload -> $1 AS value, count(*) AS points
FROM vector.points_{collection_id} AS points
WHERE jsonb_typeof(payload -> $1) IN ('string', 'number', 'boolean') AND {condition} AND {live}
GROUP BY 1
ORDER BY 2 DESC, 1
LIMIT $2

-- name: stage
-- Where the points of a bulk upsert wait, without indexes, while some of them exist.
CREATE TEMP TABLE staged (
    id text COLLATE "C", embedding {loose}, payload jsonb, expires_at timestamptz
) ON COMMIT DROP

-- name: upsert_staged
-- As upsert, of what is staged.
WITH written AS (
    INSERT INTO vector.points_{collection_id} AS points (id, embedding, payload, expires_at)
    SELECT id, embedding, payload, expires_at FROM pg_temp.staged
    ON CONFLICT (id) DO UPDATE
    SET embedding = excluded.embedding, payload = excluded.payload,
        expires_at = excluded.expires_at,
        updated_at = CASE WHEN {live} THEN now() ELSE vector.revive() END
    WHERE points.embedding <> excluded.embedding OR points.payload <> excluded.payload
        OR points.expires_at <> excluded.expires_at OR NOT {live}
    RETURNING points.xmax = 0 AS inserted
)
SELECT (SELECT count(*) FROM pg_temp.staged) AS upserted,
    count(*) FILTER (WHERE inserted) + vector.revived() AS inserted,
    count(*) FILTER (WHERE NOT inserted) - vector.revived() AS updated
FROM written

-- name: sweep
-- Points whose time has come, some at a time. $1 most rows
WITH doomed AS MATERIALIZED (
    SELECT id FROM vector.points_{collection_id} AS points
    WHERE expires_at < 'infinity' AND expires_at <= now()
    ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM vector.points_{collection_id} AS points
    USING doomed WHERE points.id = doomed.id RETURNING points.id
)
SELECT count(*) FROM deleted
