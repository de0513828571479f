-- Answers that may be given again, for all instances of the router. A cache and no record:
-- it is not logged, and empty after a crash of Postgres.
CREATE UNLOGGED TABLE router.answers (
    -- SHA-256 of all that the answer depends on, the tenant included.
    key bytea PRIMARY KEY,
    tenant_id text NOT NULL,
    -- The model that gave it, and what its provider called itself.
    model text NOT NULL,
    model_version text NOT NULL,
    tags text[] NOT NULL,
    -- What a kept answer is; see `cache/codec.py`.
    answer bytea NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX answers_expiry ON router.answers (expires_at);
CREATE INDEX answers_of_a_tenant ON router.answers (tenant_id, kept_at);

-- What was invalidated lately, so that every instance drops it from its memory, and an
-- answer that was being made meanwhile is not kept. One at a time is added, under a lock:
-- whoever has seen a number has seen all below it.
CREATE TABLE router.invalidations (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    -- NULL of each: whatever it is.
    tag text,
    model text,
    model_version text,
    -- Answers that were kept after this stay.
    kept_until timestamptz,
    made_at timestamptz NOT NULL DEFAULT now()
);
