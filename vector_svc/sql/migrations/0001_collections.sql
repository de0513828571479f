-- The names and configurations of collections. The points of each are in a table of
-- their own, vector.points_<collection_id>, made and dropped together with its row here.

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

CREATE TABLE vector.collections (
    -- Never used again: GENERATED ALWAYS, and nothing resets the sequence.
    collection_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    dimension integer NOT NULL CHECK (dimension BETWEEN 1 AND 2000),
    metric text NOT NULL CHECK (metric IN ('cosine', 'dot', 'euclidean')),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
