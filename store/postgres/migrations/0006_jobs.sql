-- +goose Up
-- What servers do by themselves. tenant_id and tenant, which is its slug, are of the tenant
-- that it is about: none and '' of all. A job is a worker's until its lease ends, and each
-- attempt is another: what an earlier one says of it comes too late.
-- Beats change no column that an index has: with room in its page such a version needs no
-- place in the indexes, and is gone with the next one.
CREATE TABLE mds_internal.jobs (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id        uuid REFERENCES mds_internal.tenants ON DELETE CASCADE,
    tenant           text COLLATE "C" NOT NULL CHECK ((tenant = '') = (tenant_id IS NULL)),
    action           text COLLATE "C" NOT NULL,
    name             text COLLATE "C" NOT NULL,
    params           text COLLATE "C" NOT NULL,
    key              text COLLATE "C" NOT NULL,
    priority         integer NOT NULL,
    mode             text COLLATE "C" NOT NULL,
    dataset          text COLLATE "C" NOT NULL,
    vendor           text COLLATE "C" NOT NULL,
    symbols          text[] COLLATE "C" NOT NULL,
    starts_at        timestamptz,
    ends_at          timestamptz,
    fingerprint      text COLLATE "C" NOT NULL,
    asked_by         text COLLATE "C" NOT NULL,
    not_before       timestamptz,
    max_attempts     integer NOT NULL CHECK (max_attempts > 0),
    state            text COLLATE "C" NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    created_at       timestamptz NOT NULL,
    started_at       timestamptz,
    finished_at      timestamptz CHECK ((finished_at IS NULL) = (state IN ('queued', 'running'))),
    heartbeat_at     timestamptz,
    lease_until      timestamptz CHECK ((lease_until IS NULL) = (state <> 'running')),
    worker           text COLLATE "C" NOT NULL DEFAULT '',
    version          text COLLATE "C" NOT NULL DEFAULT '',
    attempt          integer NOT NULL DEFAULT 0,
    cancel_requested boolean NOT NULL DEFAULT false,
    error            text COLLATE "C" NOT NULL DEFAULT '',
    parts            bigint NOT NULL DEFAULT 0,
    parts_done       bigint NOT NULL DEFAULT 0,
    written          bigint NOT NULL DEFAULT 0,
    failed           bigint NOT NULL DEFAULT 0,
    note             text COLLATE "C" NOT NULL DEFAULT ''
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX jobs_key ON mds_internal.jobs (key, tenant_id) NULLS NOT DISTINCT WHERE key <> '';
CREATE INDEX jobs_to_do ON mds_internal.jobs (priority DESC, id) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_failed ON mds_internal.jobs (id) WHERE state = 'failed';
CREATE INDEX jobs_tenant ON mds_internal.jobs (tenant_id, id);
CREATE INDEX jobs_finished ON mds_internal.jobs (finished_at) WHERE finished_at IS NOT NULL;

-- The parts of a job that are done.
CREATE TABLE mds_internal.job_parts (
    job_id  bigint NOT NULL REFERENCES mds_internal.jobs ON DELETE CASCADE,
    name    text COLLATE "C" NOT NULL,
    written bigint NOT NULL,
    failed  bigint NOT NULL,
    done_at timestamptz NOT NULL,
    PRIMARY KEY (job_id, name)
);

-- A server does the jobs of all tenants: it sees all of them, and nobody else any.
ALTER TABLE mds_internal.jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE mds_internal.jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY of_service ON mds_internal.jobs USING ((SELECT mds_internal.is_service()) OR (SELECT mds_internal.is_owner()));
ALTER TABLE mds_internal.job_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE mds_internal.job_parts FORCE ROW LEVEL SECURITY;
CREATE POLICY of_service ON mds_internal.job_parts USING ((SELECT mds_internal.is_service()) OR (SELECT mds_internal.is_owner()));
