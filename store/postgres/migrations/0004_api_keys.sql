-- +goose Up
-- The API keys of tenants, without their secrets. The owner makes and revokes them; the
-- service's login checks them, and has no right on any other column than it needs for that.
CREATE TABLE mds_internal.api_keys (
    id            text COLLATE "C" PRIMARY KEY,
    tenant_id     uuid NOT NULL REFERENCES mds_internal.tenants ON DELETE CASCADE,
    name          text COLLATE "C" NOT NULL,
    scopes        text[] COLLATE "C" NOT NULL CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'admin'] COLLATE "C"),
    secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz,
    revoked_at    timestamptz
);
CREATE INDEX ON mds_internal.api_keys (tenant_id);

-- Whose key a token is, is not known before it is looked up: the service sees those of all
-- tenants, and nobody else any.
ALTER TABLE mds_internal.api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE mds_internal.api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY of_service ON mds_internal.api_keys USING ((SELECT mds_internal.is_service()) OR (SELECT mds_internal.is_owner()));
