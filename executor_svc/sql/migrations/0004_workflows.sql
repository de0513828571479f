-- Workflows: graphs under names, in versions. Words as in workflow_service.proto.

CREATE TYPE executor.workflow_version_state AS ENUM ('ACTIVE', 'DEPRECATED');

CREATE TABLE executor.workflow_versions (
    tenant_id text NOT NULL,
    name text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    -- Position among the workflow's versions, from 1; it never changes.
    place integer NOT NULL,
    state executor.workflow_version_state NOT NULL DEFAULT 'ACTIVE',
    -- Once `used_at` is set, the graph and the defaults stay as they are, and so does the row.
    graph_hash bytea NOT NULL REFERENCES executor.graphs,
    labels jsonb NOT NULL,
    -- 0 means that the version has no priority of its own.
    priority smallint NOT NULL,
    description text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz,
    PRIMARY KEY (tenant_id, name, version),
    UNIQUE (tenant_id, name, place)
);

-- The newest version of a name is the first of its rows here.
CREATE INDEX workflow_versions_newest
    ON executor.workflow_versions (tenant_id, name, state, place DESC);
CREATE INDEX workflow_versions_by_graph ON executor.workflow_versions (graph_hash);
