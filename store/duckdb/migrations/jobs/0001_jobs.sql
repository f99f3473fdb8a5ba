-- What the process that has the store does by itself: a file of the operator's, beside those
-- of tenants. tenant_id and tenant, which is its slug, are of the tenant that a job is about:
-- NULL and '' of all. Times are UTC. There is no index, with which DuckDB (1.5.6) gives no
-- room back of rows that are removed, and puts a row anew that it could change in its place;
-- one connection has the file, and looks before it writes.
CREATE SEQUENCE job_ids;
CREATE TABLE jobs (
    id               BIGINT    NOT NULL DEFAULT nextval('job_ids'),
    tenant_id        UUID,
    tenant           VARCHAR   NOT NULL,
    action           VARCHAR   NOT NULL,
    name             VARCHAR   NOT NULL,
    params           VARCHAR   NOT NULL,
    key              VARCHAR   NOT NULL,
    priority         INTEGER   NOT NULL,
    mode             VARCHAR   NOT NULL,
    dataset          VARCHAR   NOT NULL,
    vendor           VARCHAR   NOT NULL,
    symbols          VARCHAR[] NOT NULL,
    starts_at        TIMESTAMP,
    ends_at          TIMESTAMP,
    fingerprint      VARCHAR   NOT NULL,
    asked_by         VARCHAR   NOT NULL,
    not_before       TIMESTAMP,
    max_attempts     INTEGER   NOT NULL,
    state            VARCHAR   NOT NULL,
    created_at       TIMESTAMP NOT NULL,
    started_at       TIMESTAMP,
    finished_at      TIMESTAMP,
    heartbeat_at     TIMESTAMP,
    lease_until      TIMESTAMP,
    worker           VARCHAR   NOT NULL DEFAULT '',
    version          VARCHAR   NOT NULL DEFAULT '',
    attempt          INTEGER   NOT NULL DEFAULT 0,
    cancel_requested BOOLEAN   NOT NULL DEFAULT false,
    error            VARCHAR   NOT NULL DEFAULT '',
    parts            BIGINT    NOT NULL DEFAULT 0,
    parts_done       BIGINT    NOT NULL DEFAULT 0,
    written          BIGINT    NOT NULL DEFAULT 0,
    failed           BIGINT    NOT NULL DEFAULT 0,
    note             VARCHAR   NOT NULL DEFAULT ''
);
CREATE TABLE job_parts (
    job_id  BIGINT    NOT NULL,
    name    VARCHAR   NOT NULL,
    written BIGINT    NOT NULL,
    failed  BIGINT    NOT NULL,
    done_at TIMESTAMP NOT NULL
);
