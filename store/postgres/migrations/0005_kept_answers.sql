-- +goose Up
-- What requests with an idempotency key were answered with, for a day.
CREATE TABLE mds_internal.kept_answers (
    tenant_id   uuid NOT NULL REFERENCES mds_internal.tenants ON DELETE CASCADE,
    key         text COLLATE "C" NOT NULL,
    operation   text COLLATE "C" NOT NULL,
    head_sha256 bytea NOT NULL CHECK (octet_length(head_sha256) = 32),
    body_sha256 bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    status      integer NOT NULL,
    body        bytea NOT NULL,
    kept_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX ON mds_internal.kept_answers (tenant_id, kept_at);

-- The policy is that of series. There is no view: nobody but the service has a use for them.
ALTER TABLE mds_internal.kept_answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE mds_internal.kept_answers FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON mds_internal.kept_answers
    USING (tenant_id = ANY (ARRAY[(SELECT mds_internal.current_tenant())]) OR (SELECT mds_internal.is_owner()));
