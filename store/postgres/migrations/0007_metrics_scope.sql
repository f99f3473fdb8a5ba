-- +goose Up
-- API keys that read the metrics, and nothing else.
ALTER TABLE mds_internal.api_keys
    DROP CONSTRAINT api_keys_scopes_check,
    ADD CONSTRAINT api_keys_scopes_check CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'admin', 'metrics'] COLLATE "C");
