-- Statements that measure an index, and those on what was searched for. {collection_id} and
-- {live} as in search.sql.

-- name: sample
-- Stored vectors by chance. $1 most of them
SELECT points.id, points.embedding
FROM vector.points_{collection_id} AS points
WHERE {live}
ORDER BY random()
LIMIT $1

-- name: keep
-- $1 collection_id, $2 tenant_id, $3 target, $4 index_built, $5 figures, $6 unreachable,
-- $7 samples, $8 queries
INSERT INTO vector.recalls (
    collection_id, tenant_id, target, index_built, figures, unreachable, samples, queries
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (collection_id) DO UPDATE
SET target = excluded.target, index_built = excluded.index_built, figures = excluded.figures,
    unreachable = excluded.unreachable, samples = excluded.samples, queries = excluded.queries,
    measured_at = excluded.measured_at
RETURNING *

-- name: queries
-- What was searched for, by chance. $1 collection_id, $2 most of them
SELECT embedding, wanted FROM vector.query_samples
WHERE collection_id = $1
ORDER BY random()
LIMIT $2

-- name: lock_queries
-- One transaction at a time adds to a collection's samples.
-- $1 collection_id
SELECT pg_advisory_xact_lock(hashtextextended('vector.query_samples', $1))

-- name: keep_queries
-- If the collection still wants any, whatever the caller remembers of it.
-- $1 collection_id, $2 embeddings, $3 numbers of points wanted
INSERT INTO vector.query_samples (collection_id, tenant_id, embedding, wanted)
SELECT collections.collection_id, collections.tenant_id, query.embedding, query.wanted
FROM vector.collections
CROSS JOIN unnest($2::bytea[], $3::integer[]) AS query(embedding, wanted)
WHERE collections.collection_id = $1 AND collections.query_samples > 0
