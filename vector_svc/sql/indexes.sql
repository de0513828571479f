-- Statements on vector indexes and their builds.

-- name: insert_build
-- No row comes back while another build is open.
-- $1 build_id, $2 tenant_id, $3 collection_id, $4 estimated_bytes, $5 memory_bytes
INSERT INTO vector.index_builds (
    build_id, tenant_id, collection_id, state, estimated_bytes, memory_bytes
)
VALUES ($1, $2, $3, 'PENDING', $4, $5)
ON CONFLICT (collection_id) WHERE state IN ('PENDING', 'RUNNING') DO NOTHING
RETURNING build_id

-- name: open_build
-- $1 collection_id
SELECT build_id FROM vector.index_builds
WHERE collection_id = $1 AND state IN ('PENDING', 'RUNNING')

-- name: get_build
-- $1 tenant_id, $2 build_id
SELECT index_builds.*, collections.name
FROM vector.index_builds JOIN vector.collections USING (collection_id)
WHERE index_builds.tenant_id = $1 AND build_id = $2

-- name: list_builds
-- $1 tenant_id, $2 collection_id, $3 most rows
SELECT index_builds.*, collections.name
FROM vector.index_builds JOIN vector.collections USING (collection_id)
WHERE index_builds.tenant_id = $1 AND collection_id = $2
ORDER BY created_at DESC
LIMIT $3

-- name: cancel_build
-- $1 tenant_id, $2 build_id
UPDATE vector.index_builds SET state = 'CANCELLED', ended_at = now()
WHERE tenant_id = $1 AND build_id = $2 AND state IN ('PENDING', 'RUNNING')
RETURNING collection_id

-- name: cancel_work
-- $1 collection_id
SELECT count(pg_cancel_backend(pid)) FROM pg_stat_progress_create_index
WHERE relid = to_regclass('vector.points_' || $1::bigint)

-- name: progress
-- How far Postgres has come with the index of a collection's points. $1 collection_id
SELECT phase, coalesce(blocks_done::float8 / nullif(blocks_total, 0), 0) AS progress
FROM pg_stat_progress_create_index
WHERE relid = to_regclass('vector.points_' || $1::bigint)
LIMIT 1

-- name: unindexed
-- Collections without an index whose tables may hold the points that it takes, which have
-- no build open and none that failed or was ended lately.
SELECT collections.* FROM vector.collections
WHERE index_built IS NULL AND index_kind <> 'none'
    AND pg_relation_size(to_regclass('vector.points_' || collection_id)) >= index_min_points::bigint * (dimension / 8)
    AND NOT EXISTS (
        SELECT FROM vector.index_builds
        WHERE index_builds.collection_id = collections.collection_id AND (
            state IN ('PENDING', 'RUNNING') OR ended_at > now() - interval '1 hour'
        )
    )
ORDER BY collection_id

-- name: leftovers
-- Vector indexes that were not finished, of which no build is open.
SELECT relname AS name
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
WHERE NOT indisvalid
    AND relnamespace = 'vector'::regnamespace
    AND relname ~ '^points_[0-9]+_embedding_[0-9a-f]+$'
    AND NOT EXISTS (
        SELECT FROM vector.index_builds
        WHERE collection_id = split_part(relname, '_', 2)::bigint
            AND state IN ('PENDING', 'RUNNING')
    )

-- name: open_builds_of_all
SELECT build_id FROM vector.index_builds
WHERE state IN ('PENDING', 'RUNNING')
ORDER BY created_at

-- name: lock_build
-- Held by the session that builds. $1 build_id
SELECT pg_try_advisory_lock(hashtextextended('stepwire.vector.build.' || $1::text, 0))

-- name: start_build
-- No row comes back if it has ended. $1 build_id
UPDATE vector.index_builds SET state = 'RUNNING', started_at = now()
WHERE build_id = $1 AND state IN ('PENDING', 'RUNNING')
RETURNING collection_id, memory_bytes

-- name: find_running
-- No row comes back if it was ended meanwhile. $1 build_id
SELECT 1 FROM vector.index_builds WHERE build_id = $1 AND state = 'RUNNING'

-- name: get_collection
-- $1 collection_id
SELECT * FROM vector.collections WHERE collection_id = $1

-- name: end_build
-- One that a caller has ended stays so. $1 build_id, $2 state, $3 failure
UPDATE vector.index_builds SET state = $2, failure = $3, ended_at = now()
WHERE build_id = $1 AND state = 'RUNNING'
RETURNING state

-- name: vector_indexes
-- The vector indexes of a table. $1 collection_id
SELECT pg_class.relname AS name, indisvalid AS valid
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_am ON pg_am.oid = pg_class.relam
WHERE indrelid = to_regclass('vector.points_' || $1::bigint) AND amname IN ('hnsw', 'ivfflat')

-- name: set_index_built
-- $1 collection_id, $2 what the index was made with, null if there is none
UPDATE vector.collections SET index_built = $2 WHERE collection_id = $1

-- name: set_memory
-- For the session. $1 maintenance_work_mem, $2 max_parallel_maintenance_workers
SELECT set_config('maintenance_work_mem', $1, false),
    set_config('max_parallel_maintenance_workers', $2, false)
