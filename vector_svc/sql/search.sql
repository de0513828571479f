-- Statements that find the points of one collection. {collection_id} and {operator} are
-- filled in from our own numbers and constants, never from what a caller sent.

-- name: count_up_to
-- $1 most to count
SELECT count(*) FROM (SELECT FROM vector.points_{collection_id} LIMIT $1) AS points

-- name: estimate_points
-- The planner's own estimate, which follows the table's size without a scan of it.
EXPLAIN (FORMAT JSON) SELECT FROM vector.points_{collection_id}

-- name: count_matches
-- $1 filter, $2 most to count
SELECT count(*) FROM (
    SELECT FROM vector.points_{collection_id} WHERE payload @> $1 LIMIT $2
) AS matches

-- name: search_exact
-- "+ 0" is what no index can order by, so every point is compared.
-- $1 embedding, $2 most rows, $3 whether with embeddings
SELECT id, payload, CASE WHEN $3 THEN embedding END AS embedding,
    embedding {operator} $1 AS distance
FROM vector.points_{collection_id}
ORDER BY (embedding {operator} $1) + 0
LIMIT $2

-- name: search_exact_filtered
-- $1 embedding, $2 most rows, $3 whether with embeddings, $4 filter
SELECT id, payload, CASE WHEN $3 THEN embedding END AS embedding,
    embedding {operator} $1 AS distance
FROM vector.points_{collection_id}
WHERE payload @> $4
ORDER BY (embedding {operator} $1) + 0
LIMIT $2

-- name: search_index
-- The settings hold for this statement only: set_config(…, true) ends with the
-- transaction, which is the statement. They are read when the scan of the index begins,
-- and that is after them, since the scan waits for "knobs.ready". A walk goes on past
-- hnsw.ef_search candidates where deleted points leave it short.
-- $1 embedding, $2 most rows, $3 whether with embeddings, $4 hnsw.ef_search,
-- $5 hnsw.max_scan_tuples
WITH knobs AS MATERIALIZED (
    SELECT concat(
        set_config('hnsw.ef_search', $4, true),
        set_config('hnsw.max_scan_tuples', $5, true),
        set_config('hnsw.iterative_scan', 'strict_order', true)
    ) AS ready
)
SELECT found.* FROM knobs CROSS JOIN LATERAL (
    SELECT id, payload, CASE WHEN $3 THEN embedding END AS embedding,
        embedding {operator} $1 AS distance
    FROM vector.points_{collection_id}
    WHERE knobs.ready <> ''
    ORDER BY embedding {operator} $1
    LIMIT $2
) AS found
ORDER BY distance

-- name: search_iterative
-- As search_index, with a filter, for those that leave many points. COALESCE hides it from
-- the payload's own index, and from Postgres' guess of how few points it leaves, which
-- would lead to a scan of the table. What the walk remembers may take four times
-- work_mem, so that it ends at hnsw.max_scan_tuples and not before.
-- $1 embedding, $2 most rows, $3 whether with embeddings, $4 hnsw.ef_search,
-- $5 hnsw.max_scan_tuples, $6 filter
WITH knobs AS MATERIALIZED (
    SELECT concat(
        set_config('hnsw.ef_search', $4, true),
        set_config('hnsw.max_scan_tuples', $5, true),
        set_config('hnsw.scan_mem_multiplier', '4', true),
        set_config('hnsw.iterative_scan', 'strict_order', true)
    ) AS ready
)
SELECT found.* FROM knobs CROSS JOIN LATERAL (
    SELECT id, payload, CASE WHEN $3 THEN embedding END AS embedding,
        embedding {operator} $1 AS distance
    FROM vector.points_{collection_id}
    WHERE knobs.ready <> '' AND COALESCE(payload @> $6, false)
    ORDER BY embedding {operator} $1
    LIMIT $2
) AS found
ORDER BY distance
