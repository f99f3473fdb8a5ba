-- What requests with an idempotency key were answered with, for a day. Times are microseconds
-- since 1970. There is no index, with which DuckDB (1.5.6) gives no room back of rows that
-- are removed: key_hash, the first bytes of the key's SHA-256, is what is looked at first.
CREATE TABLE kept_answers (
    key_hash    BIGINT  NOT NULL,
    key         VARCHAR NOT NULL,
    operation   VARCHAR NOT NULL,
    head_sha256 BLOB    NOT NULL,
    body_sha256 BLOB    NOT NULL,
    status      INTEGER NOT NULL,
    body        BLOB    NOT NULL,
    kept_at     BIGINT  NOT NULL
);
