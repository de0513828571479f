-- Statements on collections, their names and figures.

-- name: pgvector_version
-- The version of the extension in this database.
SELECT extversion FROM pg_extension WHERE extname = 'vector'

-- name: roles_hold
-- Whether the caller's own role, as a tenant has it, is kept from what others have.
SELECT row_security_active('vector.collections')

-- name: find_role
-- $1 role
SELECT 1 FROM pg_roles WHERE rolname = $1

-- name: create_role
-- The role of a tenant: {role}. Another instance may make it at the same time.
DO $$
BEGIN
    CREATE ROLE {role} NOLOGIN IN ROLE stepwire_vector;
    IF NOT pg_has_role(current_user, '{role}', 'SET') THEN
        GRANT {role} TO current_user WITH SET TRUE, INHERIT FALSE;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$

-- name: find_language
-- Fails if there is no such text search configuration. $1 its name
SELECT $1::text::regconfig

-- name: insert_name
-- Take a name for a collection; no row comes back if it is taken.
-- $1 tenant_id, $2 name, $3 collection_id, $4 whether an alias
INSERT INTO vector.names (tenant_id, name, collection_id, is_alias)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, name) DO NOTHING
RETURNING name

-- name: insert_collection
-- $1 tenant_id, $2 name, $3 dimension, $4 metric, $5 element, $6 model, $7 model_version,
-- $8 index_kind, $9 hnsw_m, $10 hnsw_ef_construction, $11 ivf_lists, $12 quantization,
-- $13 index_min_points, $14 fields, $15 text_field, $16 text_language, $17 default_ttl,
-- $18 query_samples, $19 index_built
INSERT INTO vector.collections (
    tenant_id, name, dimension, metric, element, model, model_version,
    index_kind, hnsw_m, hnsw_ef_construction, ivf_lists, quantization,
    index_min_points, fields, text_field, text_language, default_ttl,
    query_samples, index_built
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
RETURNING *

-- name: find_collection
-- By a name of its own or an alias. $1 tenant_id, $2 name
SELECT collections.*
FROM vector.names JOIN vector.collections USING (collection_id)
WHERE names.tenant_id = $1 AND names.name = $2

-- name: page_of_collections
-- The collections of a tenant after a name, by name. $1 tenant_id, $2 name, $3 most rows
SELECT collections.*
FROM vector.names JOIN vector.collections USING (collection_id)
WHERE names.tenant_id = $1 AND names.name > $2 AND NOT names.is_alias
ORDER BY names.name
LIMIT $3

-- name: lock_collection
-- $1 tenant_id, $2 name
SELECT * FROM vector.collections
WHERE collection_id = (
    SELECT collection_id FROM vector.names
    WHERE tenant_id = $1 AND name = $2 AND NOT is_alias
)
FOR UPDATE

-- name: set_lock_timeout
-- For the transaction. $1 longest wait for a lock
SELECT set_config('lock_timeout', $1, true)

-- name: update_collection
-- $1 collection_id, $2 index_kind, $3 hnsw_m, $4 hnsw_ef_construction, $5 ivf_lists,
-- $6 quantization, $7 index_min_points, $8 fields, $9 default_ttl, $10 query_samples
UPDATE vector.collections
SET index_kind = $2, hnsw_m = $3, hnsw_ef_construction = $4, ivf_lists = $5,
    quantization = $6, index_min_points = $7, fields = $8, default_ttl = $9,
    query_samples = $10, revision = revision + 1, updated_at = now()
WHERE collection_id = $1
RETURNING *

-- name: delete_collection
-- Its names, its builds and what was kept of its searches go with it. $1 collection_id
DELETE FROM vector.collections WHERE collection_id = $1

-- name: drop_queries
-- All query samples but the newest, as many as the collection wants. $1 collection_id
DELETE FROM vector.query_samples
WHERE collection_id = $1 AND sample_id <= (
    SELECT sample_id FROM vector.query_samples
    WHERE collection_id = $1
    ORDER BY sample_id DESC
    LIMIT 1 OFFSET (SELECT query_samples FROM vector.collections WHERE collection_id = $1)
)

-- name: open_builds
-- Which of some collections have an index build under way. $1 collection_ids
SELECT collection_id FROM vector.index_builds
WHERE collection_id = ANY ($1) AND state IN ('PENDING', 'RUNNING')

-- name: cancel_builds
-- End the builds of a collection's index, under way or not; no row comes back if there is
-- no such collection. $1 tenant_id, $2 name
WITH found AS (
    SELECT collection_id FROM vector.names
    WHERE tenant_id = $1 AND name = $2 AND NOT is_alias
), cancelled AS (
    UPDATE vector.index_builds SET state = 'CANCELLED', ended_at = now()
    FROM found
    WHERE index_builds.collection_id = found.collection_id AND state IN ('PENDING', 'RUNNING')
)
SELECT collection_id, (
    SELECT count(pg_cancel_backend(pid)) FROM pg_stat_progress_create_index
    WHERE relid = to_regclass('vector.points_' || collection_id)
) FROM found
