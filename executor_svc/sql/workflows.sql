-- Statements on workflows. Where a version's use races with its change or its end, the
-- condition on `used_at` in one statement decides. A graph that is there is locked by the
-- statement that refers to it, lest retention drops it in between.

-- name: find_workflow_version
-- Read a version. $1 tenant, $2 name, $3 version.
SELECT * FROM executor.workflow_versions WHERE tenant_id = $1 AND name = $2 AND version = $3

-- name: newest_workflow_version
-- Read the newest version, an active one if there is any. $1 tenant, $2 name.
SELECT * FROM executor.workflow_versions
WHERE tenant_id = $1 AND name = $2
ORDER BY state, place DESC
LIMIT 1

-- name: last_workflow_version
-- Say where a workflow's versions end. $1 tenant, $2 name.
SELECT coalesce(max(place), 0) AS place,
    coalesce(max(version::numeric) FILTER (WHERE version ~ '^[1-9][0-9]*$'), 0)::text AS number
FROM executor.workflow_versions
WHERE tenant_id = $1 AND name = $2

-- name: add_workflow_version
-- Add a version and its graph. $1 tenant, $2 name, $3 version, $4 place, $5 graph hash,
-- $6 spec, $7 labels, $8 priority, $9 description. No row when version or place is taken.
WITH graph AS (
    INSERT INTO executor.graphs (graph_hash, spec) VALUES ($5, $6)
    ON CONFLICT (graph_hash) DO UPDATE SET used_at = now()
)
INSERT INTO executor.workflow_versions
    (tenant_id, name, version, place, graph_hash, labels, priority, description)
VALUES ($1, $2, $3, $4, $5, $7::jsonb, $8, $9)
ON CONFLICT DO NOTHING
RETURNING *

-- name: write_workflow_version
-- Give a version its content, unless it was used with another one. $1 tenant, $2 name,
-- $3 version, $4 graph hash, $5 spec, $6 labels, $7 priority, $8 description.
WITH graph AS (
    INSERT INTO executor.graphs (graph_hash, spec) VALUES ($4, $5)
    ON CONFLICT (graph_hash) DO UPDATE SET used_at = now()
)
UPDATE executor.workflow_versions
SET graph_hash = $4, labels = $6::jsonb, priority = $7, description = $8,
    updated_at = CASE
        WHEN (graph_hash, labels, priority, description) = ($4, $6::jsonb, $7::smallint, $8)
        THEN updated_at ELSE now() END
WHERE tenant_id = $1 AND name = $2 AND version = $3
    AND (used_at IS NULL OR (graph_hash, labels, priority) = ($4, $6::jsonb, $7::smallint))
RETURNING *

-- name: use_workflow_version
-- Record that an active version is used, and read it. $1 tenant, $2 name, $3 version.
UPDATE executor.workflow_versions SET used_at = coalesce(used_at, now())
WHERE tenant_id = $1 AND name = $2 AND version = $3 AND state = 'ACTIVE'
RETURNING *

-- name: set_workflow_version_state
-- Say whether a version takes new tasks. $1 tenant, $2 name, $3 version, $4 state.
UPDATE executor.workflow_versions
SET state = $4, updated_at = CASE WHEN state = $4 THEN updated_at ELSE now() END
WHERE tenant_id = $1 AND name = $2 AND version = $3
RETURNING *

-- name: delete_workflow_version
-- Delete a version that was never used. $1 tenant, $2 name, $3 version.
DELETE FROM executor.workflow_versions
WHERE tenant_id = $1 AND name = $2 AND version = $3 AND used_at IS NULL
RETURNING version

-- name: list_workflows
-- List the newest version of each workflow by name. $1 tenant, $2 behind this name,
-- $3 most rows.
SELECT DISTINCT ON (name) * FROM executor.workflow_versions
WHERE tenant_id = $1 AND name > $2
ORDER BY name, state, place DESC
LIMIT $3

-- name: list_workflow_versions
-- List a workflow's versions, the last first. $1 tenant, $2 name, $3 before this place
-- (null: from the last), $4 most rows.
SELECT * FROM executor.workflow_versions
WHERE tenant_id = $1 AND name = $2 AND ($3::integer IS NULL OR place < $3)
ORDER BY place DESC
LIMIT $4

-- name: read_workflow_graph
-- Read a version's graph. $1 graph hash.
SELECT spec FROM executor.graphs WHERE graph_hash = $1
