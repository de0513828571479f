-- Who may call the gateway.

CREATE TABLE gateway.keys (
    -- Part of the key's text.
    key_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    scopes text[] NOT NULL CHECK (scopes <@ ARRAY['read', 'write', 'admin']),
    -- SHA-256 of the secret, and of the one before the last rotation.
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    previous_digest bytea CHECK (octet_length(previous_digest) = 32),
    previous_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    -- Of the call that made it, and of the one that rotated it last.
    request_id text NOT NULL,
    rotation_id text,
    rotated_at timestamptz,
    CHECK ((previous_digest IS NULL) = (previous_until IS NULL)),
    UNIQUE (tenant_id, request_id)
);

CREATE INDEX keys_by_age ON gateway.keys (created_at, key_id);
