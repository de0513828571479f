-- Statements on second names of collections.

-- name: set_alias
-- No row comes back if a collection has the name. $1 tenant_id, $2 alias, $3 collection_id
INSERT INTO vector.names AS known (tenant_id, name, collection_id, is_alias)
VALUES ($1, $2, $3, true)
ON CONFLICT (tenant_id, name) DO UPDATE SET collection_id = excluded.collection_id
WHERE known.is_alias
RETURNING name

-- name: delete_alias
-- $1 tenant_id, $2 alias
DELETE FROM vector.names WHERE tenant_id = $1 AND name = $2 AND is_alias

-- name: find_names
-- The collections that some names stand for; locked, so that none is deleted meanwhile.
-- $1 tenant_id, $2 names
SELECT name, collection_id, is_alias FROM vector.names
WHERE tenant_id = $1 AND name = ANY ($2)
ORDER BY name
FOR SHARE

-- name: page_of_aliases
-- $1 tenant_id, $2 name after which, $3 most rows
SELECT names.name, collections.name AS collection
FROM vector.names JOIN vector.collections USING (collection_id)
WHERE names.tenant_id = $1 AND names.name > $2 AND names.is_alias
ORDER BY names.name
LIMIT $3
