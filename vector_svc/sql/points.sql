-- Statements on the points of one collection. {collection_id}, {dimension}, {operator},
-- {opclass}, {m} and {ef_construction} are filled in from our own numbers and constants,
-- never from what a caller sent.
--
-- Ids are compared byte by byte (COLLATE "C"), which is the order of their code points,
-- and so the order in which Python sorts them.

-- name: create_points
-- The table of a collection's points, and its indexes.
-- GIN without its list of pending entries: every search would read through that list.
CREATE TABLE vector.points_{collection_id} (
    id text COLLATE "C" PRIMARY KEY,
    embedding vector({dimension}) NOT NULL,
    payload jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX points_{collection_id}_embedding ON vector.points_{collection_id}
    USING hnsw (embedding {opclass}) WITH (m = {m}, ef_construction = {ef_construction});
CREATE INDEX points_{collection_id}_payload ON vector.points_{collection_id}
    USING gin (payload jsonb_path_ops) WITH (fastupdate = off);

-- name: drop_points
DROP TABLE vector.points_{collection_id}

-- name: count_points
SELECT count(*) FROM vector.points_{collection_id}

-- name: count_points_up_to
-- $1 most to count
SELECT count(*) FROM (SELECT FROM vector.points_{collection_id} LIMIT $1) AS counted

-- name: upsert
-- Points that are the same already are left alone: a repeated request costs little.
-- $1 ids, ascending, $2 embeddings, $3 payloads
INSERT INTO vector.points_{collection_id} AS old (id, embedding, payload)
SELECT id, embedding, payload
FROM unnest($1::text[], $2::vector[], $3::jsonb[]) AS new (id, embedding, payload)
ON CONFLICT (id) DO UPDATE
SET embedding = excluded.embedding, payload = excluded.payload, updated_at = now()
WHERE old.embedding <> excluded.embedding OR old.payload <> excluded.payload

-- name: get
-- $1 ids, $2 whether with embeddings
SELECT id, payload, CASE WHEN $2 THEN embedding END AS embedding
FROM vector.points_{collection_id}
WHERE id = ANY ($1)

-- name: delete
-- The rows are locked in the order of their ids first, as upserts do. $1 ids
WITH doomed AS MATERIALIZED (
    SELECT id FROM vector.points_{collection_id} WHERE id = ANY ($1) ORDER BY id FOR UPDATE
), deleted AS (
    DELETE FROM vector.points_{collection_id} AS points
    USING doomed WHERE points.id = doomed.id RETURNING points.id
)
SELECT count(*) FROM deleted
