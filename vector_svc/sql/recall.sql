-- Statements that measure an index. {collection_id}, {type} and {live} as in search.sql.

-- name: sample
-- Stored vectors by chance. $1 most of them
SELECT points.id, points.embedding
FROM vector.points_{collection_id} AS points
WHERE {live}
ORDER BY random()
LIMIT $1

-- name: keep
-- $1 collection_id, $2 tenant_id, $3 target, $4 figures, $5 unreachable, $6 samples
INSERT INTO vector.recalls (collection_id, tenant_id, target, figures, unreachable, samples)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (collection_id) DO UPDATE
SET target = excluded.target, figures = excluded.figures, unreachable = excluded.unreachable,
    samples = excluded.samples, measured_at = excluded.measured_at
RETURNING *
