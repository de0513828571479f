-- Statements on the table of collections.

-- name: insert_collection
-- Make a collection's row; no row comes back if the name is taken.
-- $1 tenant_id, $2 name, $3 dimension, $4 metric
INSERT INTO vector.collections (tenant_id, name, dimension, metric)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, name) DO NOTHING
RETURNING collection_id, name, dimension, metric

-- name: find_collection
-- $1 tenant_id, $2 name
SELECT collection_id, name, dimension, metric
FROM vector.collections
WHERE tenant_id = $1 AND name = $2

-- name: page_of_collections
-- The collections of a tenant after a name, by name. $1 tenant_id, $2 name, $3 most rows
SELECT collection_id, name, dimension, metric
FROM vector.collections
WHERE tenant_id = $1 AND name > $2
ORDER BY name
LIMIT $3

-- name: delete_collection
-- $1 tenant_id, $2 name
DELETE FROM vector.collections
WHERE tenant_id = $1 AND name = $2
RETURNING collection_id

-- name: pgvector_version
-- The version of the extension in this database.
SELECT extversion FROM pg_extension WHERE extname = 'vector'
