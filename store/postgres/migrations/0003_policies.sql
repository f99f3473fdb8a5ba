-- +goose Up
-- What is kept of each table of facts. kept_from is the time before which records were
-- dropped, none where it is missing; refreshed_at is the service's.
CREATE TABLE mds_internal.policies (
    facts          text COLLATE "C" PRIMARY KEY,
    kind           text COLLATE "C" NOT NULL,
    timeframe      text COLLATE "C" NOT NULL,
    partition      text COLLATE "C" NOT NULL,
    compress_after text COLLATE "C" NOT NULL,
    drop_after     text COLLATE "C" NOT NULL,
    rollups        text[] COLLATE "C" NOT NULL,
    zone           text COLLATE "C" NOT NULL,
    kept_from      timestamptz,
    refreshed_at   timestamptz
);

-- Where a tenant's series were written or deleted (gone) since rollups were made of them:
-- who writes notes it in the same transaction. spans has the n stretches of series, which
-- internal/rollup reads, all of them between first and last.
CREATE TABLE mds_internal.touched (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL,
    facts     text COLLATE "C" NOT NULL,
    first     timestamptz NOT NULL,
    last      timestamptz NOT NULL,
    n         bigint NOT NULL,
    spans     bytea NOT NULL,
    gone      boolean NOT NULL,
    at        timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE mds_internal.touched ALTER COLUMN spans SET STORAGE EXTERNAL; -- it is small as it is

-- What was done that cannot be undone, and by whom.
CREATE TABLE mds_internal.audit (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    login  text COLLATE "C" NOT NULL DEFAULT session_user,
    action text COLLATE "C" NOT NULL,
    about  text COLLATE "C" NOT NULL,
    detail text COLLATE "C" NOT NULL
);

CREATE TABLE mds_internal.bar_rollup_series (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES mds_internal.tenants,
    vendor      text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    timeframe   text COLLATE "C" NOT NULL,
    source      text COLLATE "C" NOT NULL,
    UNIQUE (tenant_id, vendor, symbol, timeframe, source)
);

CREATE TABLE mds_internal.bar_rollup_facts (
    series_id   bigint NOT NULL,
    ts          timestamptz NOT NULL,
    open        double precision,
    high        double precision,
    low         double precision,
    close       double precision NOT NULL,
    volume      double precision,
    vwap        double precision,
    trade_count bigint,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (series_id, ts)
);
CREATE INDEX ON mds_internal.bar_rollup_facts USING brin (ts) WHERE series_id > -1;

CALL mds_internal.seal('mds_internal.bar_rollup_series');
CALL mds_internal.sealed_view('mds', 'rollups', 'mds_internal.bar_rollup_facts', 'mds_internal.bar_rollup_series',
    ARRAY['greatest(s.vendor, '''') AS vendor', 'greatest(s.symbol, '''') AS symbol', 'greatest(s.timeframe, '''') AS timeframe', 'greatest(s.source, '''') AS source'],
    '{ts}', '{open,high,low,close,volume,vwap,trade_count,updated_at}', '');
CREATE INDEX bar_rollup_series_seen ON mds_internal.bar_rollup_series (tenant_id, greatest(symbol, ''), greatest(vendor, ''), greatest(timeframe, ''));
ALTER INDEX mds_internal.bar_rollup_series_seen ALTER COLUMN 2 SET STATISTICS 0, ALTER COLUMN 3 SET STATISTICS 0, ALTER COLUMN 4 SET STATISTICS 0;
COMMENT ON VIEW mds.rollups IS 'Bars of a tenant that the store made of shorter ones (source), as they were when they were made last. Times are the starts of the bars, UTC; those of days, weeks and months 00:00 of their dates.';

-- Who begins to write learns of which tables there are rollups, after those who change that
-- have ended: they lock the tenants, whose rows writers hold.
DROP FUNCTION mds_internal.enter;
-- +goose StatementBegin
CREATE FUNCTION mds_internal.enter(tenant uuid, access text, series regclass, OUT began timestamptz, OUT known boolean, OUT token text, OUT rolled text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM set_config('app.tenant_id', tenant::text, true);
    IF access = 'write' THEN
        PERFORM FROM mds_internal.tenants t WHERE t.id = tenant FOR KEY SHARE;
    ELSIF access = 'remove' THEN
        PERFORM FROM mds_internal.tenants t WHERE t.id = tenant FOR UPDATE;
    ELSE
        PERFORM FROM mds_internal.tenants t WHERE t.id = tenant;
    END IF;
    known := FOUND;
    began := now();
    IF access = 'write' THEN
        rolled := (SELECT string_agg(p.facts, ',') FROM mds_internal.policies p WHERE p.rollups <> '{}');
    END IF;
    IF series IS NOT NULL THEN
        token := (SELECT e.id::text FROM mds_internal.epoch e) || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || extract(epoch FROM pg_postmaster_start_time()) || pg_relation_filenode(series);
    END IF;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION mds_internal.enter FROM PUBLIC;
