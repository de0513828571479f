-- Collections, their names, and the builds of their indexes. The points of each are in a
-- table of their own, vector.points_<collection_id>, made and dropped with its row here.
--
-- Every tenant has a role, and calls run under it. Of the tables here it sees its own rows
-- (row-level security); of the tables of points it may touch its own (privileges: policies
-- there would keep `@>` and `@@` from using their indexes, since they are not leakproof).

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

-- Roles belong to all databases of a server, so another one may have made it, even now.
DO $$
BEGIN
    CREATE ROLE stepwire_vector NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

GRANT USAGE ON SCHEMA vector TO stepwire_vector;

-- The role of a tenant.
CREATE FUNCTION vector.role_of(tenant_id text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'stepwire_vector_' || md5(tenant_id);

CREATE TABLE vector.collections (
    -- Never used again: GENERATED ALWAYS, and nothing resets the sequence.
    collection_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    dimension integer NOT NULL CHECK (dimension BETWEEN 1 AND 64000),
    metric text NOT NULL CHECK (
        metric IN ('cosine', 'dot', 'euclidean', 'manhattan', 'hamming', 'jaccard')
    ),
    element text NOT NULL CHECK (element IN ('float32', 'float16', 'binary')),
    model text NOT NULL,
    model_version text NOT NULL,
    index_kind text NOT NULL CHECK (index_kind IN ('hnsw', 'ivfflat', 'none')),
    hnsw_m integer NOT NULL,
    hnsw_ef_construction integer NOT NULL,
    -- 0: chosen by the number of points.
    ivf_lists integer NOT NULL,
    quantization text NOT NULL CHECK (quantization IN ('none', 'half', 'binary')),
    index_min_points integer NOT NULL CHECK (index_min_points > 0),
    -- Promoted fields: their types by their names.
    fields jsonb NOT NULL,
    -- Both '' without full-text search.
    text_field text NOT NULL,
    text_language text NOT NULL,
    -- Null: points are kept for ever.
    default_ttl interval CHECK (default_ttl >= interval '1 second'),
    -- Most searches that are kept to measure recall by.
    query_samples integer NOT NULL CHECK (query_samples BETWEEN 0 AND 1000),
    -- Whether the vector index is there and valid.
    index_ready boolean NOT NULL DEFAULT false,
    revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX collections_without_index ON vector.collections (collection_id)
    WHERE NOT index_ready AND index_kind <> 'none';

-- What collections are found by: a name of their own and aliases, each once per tenant.
CREATE TABLE vector.names (
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    collection_id bigint NOT NULL REFERENCES vector.collections ON DELETE CASCADE,
    is_alias boolean NOT NULL,
    PRIMARY KEY (tenant_id, name)
);
CREATE INDEX names_by_collection ON vector.names (collection_id);

CREATE TABLE vector.index_builds (
    build_id uuid PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    collection_id bigint NOT NULL REFERENCES vector.collections ON DELETE CASCADE,
    state text NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    estimated_bytes bigint NOT NULL,
    memory_bytes bigint NOT NULL,
    failure text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz
);
-- One build of a collection at a time.
CREATE UNIQUE INDEX index_builds_open ON vector.index_builds (collection_id)
    WHERE state IN ('PENDING', 'RUNNING');
CREATE INDEX index_builds_by_collection ON vector.index_builds (collection_id, created_at);

ALTER TABLE vector.collections ENABLE ROW LEVEL SECURITY;
ALTER TABLE vector.names ENABLE ROW LEVEL SECURITY;
ALTER TABLE vector.index_builds ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON vector.collections USING (vector.role_of(tenant_id) = current_user);
CREATE POLICY own ON vector.names USING (vector.role_of(tenant_id) = current_user);
CREATE POLICY own ON vector.index_builds USING (vector.role_of(tenant_id) = current_user);
GRANT SELECT ON vector.collections TO stepwire_vector;
GRANT SELECT, INSERT, UPDATE, DELETE ON vector.names TO stepwire_vector;
GRANT SELECT, INSERT, UPDATE ON vector.index_builds TO stepwire_vector;

-- Tells every instance that what it remembers of collections may be out of date.
CREATE FUNCTION vector.tell_of_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY stepwire_vector;
    RETURN NULL;
END
$$;
CREATE TRIGGER tell_of_change AFTER UPDATE OR DELETE ON vector.collections
    FOR EACH STATEMENT EXECUTE FUNCTION vector.tell_of_change();
CREATE TRIGGER tell_of_change AFTER UPDATE OR DELETE ON vector.names
    FOR EACH STATEMENT EXECUTE FUNCTION vector.tell_of_change();

-- Promoted fields: whether a value of the payload (null: it has none) is of a type, and the
-- value in that type; null if it is of another.
CREATE FUNCTION vector.is_text(v jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE coalesce(jsonb_typeof(v), 'null')
    WHEN 'null' THEN true
    -- What a B-tree can hold.
    WHEN 'string' THEN octet_length(v #>> '{}') <= 2000
    ELSE false
END;
CREATE FUNCTION vector.text_of(v jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(v) = 'string' THEN v #>> '{}' END;

CREATE FUNCTION vector.is_int(v jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE coalesce(jsonb_typeof(v), 'null')
    WHEN 'null' THEN true
    WHEN 'number' THEN (v::numeric) % 1 = 0
        AND v::numeric BETWEEN -9223372036854775808 AND 9223372036854775807
    ELSE false
END;
CREATE FUNCTION vector.int_of(v jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(v) = 'number' AND vector.is_int(v) THEN v::bigint END;

CREATE FUNCTION vector.is_float(v jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE coalesce(jsonb_typeof(v), 'null')
    WHEN 'null' THEN true
    WHEN 'number' THEN abs(v::numeric) < 1.7976931348623158e308
    ELSE false
END;
CREATE FUNCTION vector.float_of(v jsonb) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(v) = 'number' AND vector.is_float(v) THEN v::double precision END;

CREATE FUNCTION vector.is_bool(v jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(jsonb_typeof(v) IN ('boolean', 'null'), true);
CREATE FUNCTION vector.bool_of(v jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(v) = 'boolean' THEN v::boolean END;

-- A time with an offset is the same in every session, so that these are immutable.
CREATE FUNCTION vector.rfc3339(value text) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN value ~ '^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$'
        AND pg_input_is_valid(value, 'timestamptz')
    THEN value::timestamptz
END;
CREATE FUNCTION vector.timestamp_of(v jsonb) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(v) = 'string' THEN vector.rfc3339(v #>> '{}') END;
CREATE FUNCTION vector.is_timestamp(v jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(jsonb_typeof(v), 'null') = 'null' OR vector.timestamp_of(v) IS NOT NULL;

-- Counts, for the transaction, a point that takes the place of one whose time had come; returns
-- the time. A statement cannot tell by itself what was in a row before it.
CREATE FUNCTION vector.revive() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('stepwire.revived', (vector.revived() + 1)::text, true);
    RETURN now();
END
$$;
CREATE FUNCTION vector.revived() RETURNS bigint LANGUAGE sql VOLATILE
RETURN coalesce(nullif(current_setting('stepwire.revived', true), ''), '0')::bigint;

-- What a point holds, in short: its vector, as its type writes it, and its payload.
CREATE FUNCTION vector.content_hash(embedding bytea, payload jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN left(encode(sha256(embedding || convert_to(payload::text, 'UTF8')), 'hex'), 32);
