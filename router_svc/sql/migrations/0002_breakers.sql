-- Which breakers are open, for all instances of the router. A row stays for a while after
-- its breaker was closed, so that every instance learns of it.
CREATE TABLE router.breakers (
    name text PRIMARY KEY,
    -- Rises with each change, over all rows: an instance knows by it what is new.
    version bigint NOT NULL,
    is_open boolean NOT NULL,
    -- When probes are let through; NULL of an open one: not before it is reset.
    open_until timestamptz,
    cause text NOT NULL,
    message text NOT NULL,
    status text NOT NULL,
    openings integer NOT NULL CHECK (openings >= 0),
    forced boolean NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK (is_open OR open_until IS NULL)
);

CREATE SEQUENCE router.breaker_versions;
