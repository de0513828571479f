-- Statements on the memories of one collection. {collection_id}, {condition} (a compiled
-- filter) and {live} as in points.sql; `f_space` and `f_time` are promoted fields.

-- name: latest
-- $1 time and $2 id behind which to begin, null for the first, $3 most rows, $4 on: the
-- filter's
SELECT points.id, points.payload, points.f_time AS time,
    nullif(points.expires_at, 'infinity') AS expires_at
FROM vector.points_{collection_id} AS points
WHERE {condition} AND {live} AND points.f_time IS NOT NULL
    AND ($1::timestamptz IS NULL OR (points.f_time, points.id) < ($1, $2::text))
ORDER BY points.f_time DESC, points.id DESC
LIMIT $3

-- name: spaces
-- $1 space after which, null for the first, $2 most rows, $3 on: the filter's
SELECT points.f_space AS space, count(*) AS memories, max(points.f_time) AS latest
FROM vector.points_{collection_id} AS points
WHERE {condition} AND {live} AND points.f_space IS NOT NULL AND points.f_time IS NOT NULL
    AND ($1::text IS NULL OR points.f_space COLLATE "C" > $1)
GROUP BY points.f_space
ORDER BY points.f_space COLLATE "C"
LIMIT $2
